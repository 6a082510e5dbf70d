"""``advect systems``: the published systems, their parts and their measured claims."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advect.cli.parsing import new_parser, parse
from advect.errors import InputError, require
from advect.files import read_json
from advect.systems import System, all_systems, get

SHIPPED = Path(__file__).resolve().parents[1] / "systems" / "results"
VERDICT = {True: "holds", False: "DOES NOT HOLD", None: "no pass rule"}


def run(arguments: Sequence[str]) -> int:
    """List all systems, or show one."""
    parser = new_parser("systems", "The published systems: what each is for, which parts make it, what was measured.")
    parser.add_argument("slug", nargs="?", default=None, help="show one system in full")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--results", default=None, help="folder of results, <slug>/<scale>.json, instead of those that ship"
    )
    given = parse(parser, arguments)
    systems = all_systems() if given.slug is None else [get(given.slug)]
    folder = SHIPPED if given.results is None else Path(given.results)
    if not folder.is_dir():
        raise InputError(f"results is {folder}, which is no folder: give one that holds <slug>/<scale>.json")
    measured = {system.slug: results_of(system.slug, folder) for system in systems}
    if given.json:
        print(json.dumps([described(system, measured[system.slug]) for system in systems], indent=2))
        return 0
    console = require("rich.console", "cli", "the command line").Console()
    for system in systems:
        console.print(f"\n[bold]{system.slug}[/bold]  {system.title} ({system.reference})", highlight=False)
        console.print(f"{system.purpose}", highlight=False)
        if given.slug is not None:
            for seat, parts in described(system, [])["seats"].items():
                console.print(f"  {seat}: {', '.join(parts)}", highlight=False, markup=False)
        if measured[system.slug]:
            print_claims(console, measured[system.slug], full=given.slug is not None)
        else:
            console.print(
                f"{len(system.claims)} claims, not measured there: advect reproduce {system.slug}", highlight=False
            )
    if given.slug is None:
        console.print(
            f"\n{len(systems)} systems; advect systems SLUG shows one in full, advect reproduce SLUG measures it again",
            highlight=False,
        )
    return 0


def results_of(slug: str, folder: Path) -> list[dict[str, Any]]:
    """The claims of all committed results of a system; a quick run is none."""
    found = [read_json(path) for path in sorted((folder / slug).glob("*.json"))]
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


def print_claims(console: Any, claims: list[dict[str, Any]], *, full: bool) -> None:
    """Claims as a table for the terminal; in full, below it, what each measures and the paper's figure."""
    table = require("rich.table", "cli", "the command line").Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("claim", overflow="fold")
    for name in ("ours", "baseline", "ours/baseline"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for claim in claims:
        ratio = claim.get("ratio")
        value = claim["ours"] if ratio is None else ratio
        varies = (claim.get("spread") or 0) > 1e-9 * abs(value)  # a figure without chance is the same in every seed
        spread = f" ±{claim['spread']:.2g}" if varies else ""
        table.add_row(
            claim["name"],
            _figure(claim.get("ours")) + ("" if ratio is not None else spread),
            _figure(claim.get("baseline")),
            "" if ratio is None else _figure(ratio) + spread,
            VERDICT[claim.get("holds")],
            style="red" if claim.get("holds") is False else "",
        )
    console.print(table)
    for claim in claims if full else []:
        rule = "" if claim.get("rule") is None else f"; holds if {claim['rule']}, in every seed"
        paper = "" if claim.get("paper") is None else f"; paper: {_figure(claim['paper'])}"
        sides = [f"{key}: {claim[f'{key}_is']}" for key in ("ours", "baseline") if claim.get(f"{key}_is")]
        detail = "; ".join([claim["metric"], *sides])
        cause = "" if claim.get("cause") is None else f"; it does not, because: {claim['cause']}"
        console.print(f"- {claim['name']}: {detail}{rule}{cause}{paper}", highlight=False, markup=False)


def _figure(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
