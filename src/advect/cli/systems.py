"""``advect systems``: the published systems, their parts and their measured claims."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advect.cli.parsing import new_parser, parse
from advect.errors import require
from advect.systems import System, all_systems, get

RESULTS = Path("reproductions")


def run(arguments: Sequence[str]) -> int:
    """List all systems, or show one."""
    parser = new_parser("systems", "The published systems: what each is for, which parts make it, what was measured.")
    parser.add_argument("slug", nargs="?", default=None, help="show one system in full")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--results", default=str(RESULTS), help="folder of measured results, <slug>/<scale>.json")
    given = parse(parser, arguments)
    systems = all_systems() if given.slug is None else [get(given.slug)]
    measured = {system.slug: results_of(system.slug, Path(given.results)) for system in systems}
    if given.json:
        print(json.dumps([described(system, measured[system.slug]) for system in systems], indent=2))
        return 0
    console = require("rich.console", "cli", "the command line").Console()
    for system in systems:
        console.print(f"[bold]{system.slug}[/bold]  {system.title} (arXiv {system.arxiv})", highlight=False)
        console.print(f"  {system.purpose}", highlight=False)
        if given.slug is not None:
            for seat, parts in described(system, [])["seats"].items():
                console.print(f"  {seat}: {', '.join(parts)}", highlight=False, markup=False)
        for claim in measured[system.slug]:
            console.print(f"  {claim_line(claim)}", highlight=False, markup=False)
        if not measured[system.slug]:
            for claim in system.claims:
                console.print(f"  not measured here yet: {claim.name} ({claim.metric})", highlight=False, markup=False)
    if given.slug is None:
        console.print(f"{len(systems)} systems; advect reproduce SLUG measures the claims of one", highlight=False)
    return 0


def results_of(slug: str, folder: Path) -> list[dict[str, Any]]:
    """The claims of all committed results of a system; a quick run is none."""
    found = [json.loads(path.read_text()) for path in sorted((folder / slug).glob("*.json"))]
    return [claim for result in found if not result.get("quick") for claim in result.get("claims", [])]


def described(system: System, claims: list[dict[str, Any]]) -> dict[str, Any]:
    """A system in plain values."""
    return {
        "slug": system.slug,
        "title": system.title,
        "paper": system.paper,
        "arxiv": system.arxiv,
        "purpose": system.purpose,
        "seats": system.seat_names(),
        "claims": claims or [{"name": c.name, "metric": c.metric, "better": c.better} for c in system.claims],
    }


def claim_line(claim: dict[str, Any]) -> str:
    """One claim with its figures on one line."""
    verdict = {True: "holds", False: "does NOT hold", None: "no pass rule"}[claim.get("holds")]
    figures = [
        f"{label} {_figure(claim.get(key))}"
        for key, label in (("paper", "paper"), ("ours", "ours"), ("baseline", "baseline"), ("ratio", "ratio"))
        if claim.get(key) is not None
    ]
    spread = "" if claim.get("spread") is None else f" +- {_figure(claim['spread'])}"
    return f"{verdict}: {claim['name']} ({claim['metric']}): {', '.join(figures)}{spread}"


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
