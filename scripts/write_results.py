"""Write the measured claims of reproductions/<slug>/<scale>.json into the pages that show them.

Between `<!-- results: SLUG -->` and `<!-- end of results -->` stands the whole table of a system; between
`<!-- results -->` and `<!-- end of results -->` (README) one line per system and the claims that do not hold. From the
repository root:

    python scripts/write_results.py

The JSON itself is copied into the package, where `advect systems` finds it.
"""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

RESULTS = Path("reproductions")
SHIPPED = Path("src/advect/systems/results")
PAGES = (Path("README.md"), *sorted(Path("docs").rglob("*.md")))
END = "<!-- end of results -->"
MARKED = re.compile(r"<!-- results(?:: (?P<slug>[a-z0-9-]+))? -->\n.*?" + re.escape(END), re.DOTALL)


def main() -> None:
    """Fill every marked place of every page."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*/*.json"))]
    results = [result for result in results if not result["quick"]]
    for path in sorted(RESULTS.glob("*/*.json")):
        (SHIPPED / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, SHIPPED / path.parent.name / path.name)
    for page in PAGES:
        text = page.read_text()
        filled = MARKED.sub(partial(fill, results=results, page=page), text)
        if filled != text:
            page.write_text(filled)
            print(f"wrote {page}")


def fill(found: re.Match[str], results: list[dict[str, Any]], page: Path) -> str:
    """The marked place with what was measured."""
    slug = found["slug"]
    if slug is None:
        return f"<!-- results -->\n{summary(results)}\n{END}"
    own = [result for result in results if result["slug"] == slug]
    content = "\n\n".join(whole(result, page) for result in own)
    return f"<!-- results: {slug} -->\n{content or f'Not measured yet: `advect reproduce {slug}`.'}\n{END}"


def against(claim: dict[str, Any]) -> str:
    """The baseline's figure, where there is one."""
    return "" if claim["baseline"] is None else f" against {shown(claim['baseline'])}"


def summary(results: list[dict[str, Any]]) -> str:
    """One line per system, and every claim that does not hold."""
    lines = ["| system | headline | baseline | ours | claims that hold |", "|---|---|---|---|---|"]
    fallen = []
    for result in results:
        claims = result["claims"]
        judged = [claim for claim in claims if claim["holds"] is not None]
        first = next(claim for claim in judged if claim["baseline"] is not None)
        held = f"{sum(claim['holds'] for claim in judged)} of {len(judged)}"
        page = f"[{result['slug']}](docs/systems/{result['slug']}.md)"
        cells = (page, f"{first['name']}: {first['metric']}", first["baseline"], first["ours"], held)
        lines.append("| " + " | ".join(map(shown, cells)) + " |")
        fallen += [
            f"- {result['slug']}, {claim['name']}: {shown(claim['ours'])}{against(claim)}; the rule, for each of "
            f"{claim['seeds']} seeds: {claim['rule']}. Cause: {claim['cause']}."
            for claim in judged
            if not claim["holds"]
        ]
    return "\n".join([*lines, "", "What does not hold on these small experiments:", "", *(fallen or ["- nothing."])])


def whole(result: dict[str, Any], page: Path) -> str:
    """All claims of one run, with its plots and the command that repeats it."""
    first = result["claims"][0]
    busy = f" ({first['processor_seconds']:.0f} s of processor time)" if "processor_seconds" in first else ""
    lines = [
        f"`{first['command']}` on {first['machine']}, {first['seeds']} seeds, {first['seconds']:.0f} s a seed{busy}. "
        "Figures are means over the seeds, the spread is the standard deviation of ours/baseline (of ours where there "
        "is no baseline), and a claim holds if its rule is satisfied in every seed.",
        "",
        "| claim | metric | paper | baseline | ours | ours/baseline | spread | rule | holds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = ("name", "metric", "paper", "baseline", "ours", "ratio", "spread", "rule", "holds")
    for claim in result["claims"]:
        values = dict(claim, name=named(claim))
        lines.append("| " + " | ".join(shown(values[key]) for key in keys) + " |")
    lines += [f"\nDoes not hold: {c['name']}. Cause: {c['cause']}." for c in result["claims"] if c["holds"] is False]
    for table in result["tables"]:
        lines += ["", f"{table['title']}:", "", "| " + " | ".join(table["columns"]) + " |"]
        lines.append("|---" * len(table["columns"]) + "|")
        lines += ["| " + " | ".join(shown(value) for value in row) + " |" for row in table["rows"]]
    folder = page.parent / "results" / result["slug"]
    for name in result.get("plots", []):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(RESULTS / result["slug"] / name, folder / name)
        lines += ["", f"![{name.removesuffix('.png')}](results/{result['slug']}/{name})"]
    return "\n".join(lines)


def named(claim: dict[str, Any]) -> str:
    """The claim's name with what is compared."""
    against = f" against {claim['baseline_is']}" if claim["baseline_is"] else ""
    return f"{claim['name']}: {claim['ours_is']}{against}" if claim["ours_is"] else claim["name"]


def shown(value: Any) -> str:
    """A cell of a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value).replace("|", "\\|")


if __name__ == "__main__":
    main()
