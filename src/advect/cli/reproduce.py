"""``advect reproduce``: a system's headline claim as a small real experiment."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advect.cli.parsing import new_parser, parse
from advect.cli.systems import print_claims
from advect.errors import require
from advect.files import write_json
from advect.systems import reproduce


def run(arguments: Sequence[str]) -> int:
    """Run the experiment and print every claim, whether it holds or not."""
    parser = new_parser(
        "reproduce", "Measure a system's claims on a small real experiment: the paper's figure, ours, the baseline."
    )
    parser.add_argument("slug", help="which system (advect systems lists them)")
    parser.add_argument("--scale", default="cpu", help="cpu: minutes on two cores; gpu where the system has it")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, run side by side")
    parser.add_argument("--quick", action="store_true", help="one short seed, marked in the result, never to be quoted")
    parser.add_argument("--json", default=None, help="also write the result to this file")
    parser.add_argument("--out", default=None, help="folder for JSON, plots and page; runs/reproduce/SLUG if not given")
    given = parse(parser, arguments)
    out = Path(given.out) if given.out is not None else Path("runs") / "reproduce" / given.slug
    result = reproduce(
        given.slug, given.scale, given.seeds, given.quick, out, lambda line: print(line, file=sys.stderr, flush=True)
    )
    if given.json is not None:
        write_json(given.json, result)
    if given.quick:
        print("quick run: one short seed, not to be quoted")
    print_claims(require("rich.console", "cli", "the command line").Console(), result["claims"], full=True)
    for table in result["tables"]:
        print_table(table)
    print(f"written to {out}")
    return 0


def print_table(table: dict[str, Any]) -> None:
    """A table of the result in aligned columns."""
    rows = [table["columns"]] + [
        [f"{cell:.3g}" if isinstance(cell, float) else str("" if cell is None else cell) for cell in row]
        for row in table["rows"]
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print(f"\n{table['title']}")
    for row in rows:
        print(
            "  " + row[0].ljust(widths[0]) + "".join(c.rjust(w + 2) for c, w in zip(row[1:], widths[1:], strict=True))
        )
