"""One self-contained HTML page: no script, no request to anywhere, readable on a phone and on paper."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from advect.files import write_atomically

_STYLE = """
:root { --ink: #1b1f24; --soft: #59636e; --line: #d8dee4; --shade: #f6f8fa; --mark: #2f5fb3; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: #fff; color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { max-width: 46rem; margin: .5rem 0; }
.lead, figcaption, .note { color: var(--soft); }
figcaption, .note, nav { font-size: .88rem; }
a { color: var(--mark); }
nav a { margin-right: .9rem; display: inline-block; max-width: 100%; overflow-wrap: anywhere; }
figure { margin: .8rem 0; }
img { max-width: 100%; height: auto; display: block; }
img.pixels { image-rendering: pixelated; border: 1px solid var(--line); border-radius: 4px; }
.columns { display: flex; flex-wrap: wrap; gap: 1rem 1.4rem; align-items: flex-start; }
.columns > * { flex: 1 1 14rem; min-width: 0; max-width: 100%; margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; background: var(--shade); }
td.number { text-align: right; white-space: nowrap; }
pre { background: var(--shade); padding: .8rem; border-radius: 6px; overflow-x: auto; font-size: .82rem;
      line-height: 1.4; }
summary { cursor: pointer; color: var(--mark); }
"""


class Html(str):
    """Markup that is ready; any other string is escaped before it enters a page."""


def markup(value: Any) -> Html:
    """Escape what is not markup yet."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def paragraph(text: str) -> Html:
    """A paragraph of text."""
    return Html(f"<p>{markup(text)}</p>")


def note(text: str) -> Html:
    """Small print below a figure or table."""
    return Html(f'<p class="note">{markup(text)}</p>')


def code(text: str) -> Html:
    """Text as it stands: a recipe, a command."""
    return Html(f"<pre>{markup(text)}</pre>")


def details(summary: str, *items: Html) -> Html:
    """Content that is folded away until it is asked for."""
    return Html(f"<details><summary>{markup(summary)}</summary>{''.join(items)}</details>")


def columns(*items: Html) -> Html:
    """Items side by side where the screen is wide enough, one below the other where it is not."""
    return Html(f'<div class="columns">{"".join(f"<div>{item}</div>" for item in items)}</div>')


def heading(text: str) -> Html:
    """A heading inside a section."""
    return Html(f"<h3>{markup(text)}</h3>")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Html:
    """A table; numbers stand to the right."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f'<td class="number">{value:.4g}</td>'
        if isinstance(value, int) and not isinstance(value, bool):
            return f'<td class="number">{value}</td>'
        return f"<td>{markup('' if value is None else value)}</td>"

    names = "".join(f"<th>{markup(name)}</th>" for name in head)
    top = f"<thead><tr>{names}</tr></thead>" if any(head) else ""
    body = "".join(f"<tr>{''.join(cell(value) for value in row)}</tr>" for row in rows)
    return Html(f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>')


def facts(values: Mapping[str, Any]) -> Html:
    """A two-column table of names and values: versions, seeds, sizes."""
    return table(("", ""), values.items())


class Page:
    """A page that grows section by section.

    Args:
        title: What it is about.
        lead: One or two sentences below the title.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title, self.lead = title, lead
        self._sections: list[tuple[str, list[Html]]] = []

    def section(self, title: str, *items: Html | str) -> None:
        """Add a section of ready items; a plain string becomes a paragraph."""
        ready = [item if isinstance(item, Html) else paragraph(item) for item in items]
        self._sections.append((title, ready))

    def html(self) -> str:
        """The whole page."""
        links = "".join(f'<a href="#s{i}">{markup(title)}</a>' for i, (title, _) in enumerate(self._sections))
        body = "".join(
            f'<section id="s{i}"><h2>{markup(title)}</h2>{"".join(items)}</section>'
            for i, (title, items) in enumerate(self._sections)
        )
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{markup(self.title)}</title><style>{_STYLE}</style></head><body>"
            f'<h1>{markup(self.title)}</h1><p class="lead">{markup(self.lead)}</p><nav>{links}</nav>{body}'
            "</body></html>\n"
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all."""
        write_atomically(path, self.html())
