"""One self-contained HTML page of a reproduction: claims, figures, tables, and the command that repeats it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from advect.report import Page, code, details, note, picture, table


def write_page(result: dict[str, Any], folder: Path, scale: str) -> None:
    """Write `<scale>.html` beside the JSON and the plots it shows."""
    first = result["claims"][0]
    lead = result["paper"] + (". Quick run of one short seed: never to be quoted." if result["quick"] else "")
    page = Page(result["title"], lead)
    page.section(
        "Claims",
        table(
            ("claim", "paper", "baseline", "ours", "ours / baseline", "spread", "rule", "holds"),
            [
                (
                    c["name"],
                    c["paper"],
                    c["baseline"],
                    c["ours"],
                    c["ratio"],
                    c["spread"],
                    c["rule"],
                    _holds(c["holds"]),
                )
                for c in result["claims"]
            ],
        ),
        note(
            f"Means over {first['seeds']} seed(s); spread is the standard deviation of ours / baseline over the seeds "
            "(of ours where there is no baseline); a claim holds if its rule is satisfied in every seed."
        ),
        details(
            "What was measured",
            table(
                ("claim", "metric", "ours", "baseline"),
                [(c["name"], c["metric"], c["ours_is"], c["baseline_is"]) for c in result["claims"]],
            ),
        ),
        *(note(line) for line in result["notes"]),
    )
    page.section("Figures", *(picture((folder / name).read_bytes(), name) for name in result["plots"]))
    for content in result["tables"]:
        page.section(content["title"], table(content["columns"], content["rows"]))
    about = {name: first[name] for name in ("scale", "seconds", "processor_seconds", "machine", "versions")}
    page.section(
        "How to repeat it", code(first["command"]), code(json.dumps({**about, "seats": result["seats"]}, indent=2))
    )
    page.write(folder / f"{scale}.html")


def _holds(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"
