"""All pairs of members of two seats, tried with the plain choice elsewhere: what runs, and why the others do not."""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from pathlib import Path

from axes import AXES
from cells import run_pair
from pairwise import Pair

STORED = Path(__file__).with_name("combinations.json")
SEATS = list(itertools.combinations(AXES, 2))
Refused = dict[str, list[str]]  # pairs "x + y" by the sentence that refuses them


def survey(first: str, second: str) -> Refused:
    """The pairs of two seats that are refused, by the sentence; all others run."""
    out: dict[str, list[str]] = defaultdict(list)
    for x, y in itertools.product(AXES[first], AXES[second]):
        refusal = run_pair({first: x, second: y}).refusal
        if refusal is not None:
            out[said(refusal)].append(f"{x} + {y}")
    return dict(out)


def said(refusal: str) -> str:
    """A refusal in one line, without the insides of modules, which differ between versions."""
    return re.sub(r"\s+", " ", re.sub(r"\(\s*\(.*?\n\)", "", refusal, flags=re.DOTALL))


def stored() -> dict[str, Refused]:
    """What was found when docs/combinations.md was written, by "seat x seat"."""
    return json.loads(STORED.read_text())


def size(first: str, second: str) -> int:
    """The number of pairs of two seats."""
    return len(AXES[first]) * len(AXES[second])


def refused_pairs(found: dict[str, Refused]) -> set[Pair]:
    """All refused pairs as (seat, member) twice."""
    out: set[Pair] = set()
    for (a, b), table in zip(SEATS, found.values(), strict=True):
        for pairs in table.values():
            for pair in pairs:
                x, y = pair.split(" + ")
                out.add(((a, x), (b, y)))
    return out
