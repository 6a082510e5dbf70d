"""Any part with any part: a combination runs, or is refused before the first step by a sentence that says why."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from axes import AXES
from cells import run
from pairwise import covering, pairs_of
from survey import SEATS, refused_pairs, size, stored, survey

from advect import couplings, distillation, guidance, interpolants, networks, objectives, solvers, sources
from advect.interpolants import AffineInterpolant, ChainProcess, ChangedPath
from advect.networks import FieldKernel, Kernel, LoRA

ROOMS = {
    "objective": ((objectives, distillation), objectives.Objective),
    "interpolant": ((interpolants,), interpolants.Interpolant),
    "coupling": ((couplings,), couplings.Coupling),
    "source": ((sources,), sources.Source),
    "network": ((networks,), networks.Network),
    "guidance": ((guidance,), guidance.Guidance),
    "solver": ((solvers,), solvers.Solver),
}
ELSEWHERE = {
    ChangedPath: "a view of a trained field: tests/interpolants/test_changed_path.py",
    FieldKernel: "a kernel around a trained network: tests/facts/test_transition_matching.py",
    solvers.RungeKutta: "what Euler, Heun and their kind share",
}


@pytest.mark.parametrize("seat", ROOMS)
def test_every_member_of_a_seat_is_combined(seat):
    rooms, base = ROOMS[seat]
    public = {getattr(room, name) for room in rooms for name in room.__all__}
    members = {c for c in public if isinstance(c, type) and issubclass(c, base) and not c.__abstractmethods__}
    made = {type(made) for made in _made(seat)}
    shared = {AffineInterpolant, ChainProcess, Kernel, LoRA}
    assert members - made - set(ELSEWHERE) - shared == set()


def _made(seat):
    if seat == "network":
        return [_Made(maker.func) for maker in AXES[seat].values()]
    return [maker() for maker in AXES[seat].values() if maker is not None]


def _Made(cls):
    return cls.__new__(cls)


@pytest.mark.parametrize(("first", "second"), SEATS, ids=[f"{a} x {b}" for a, b in SEATS])
def test_pairs_are_as_the_page_says(first, second, record_property):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = survey(first, second)
    record_property("combinations", (size(first, second) - sum(map(len, found.values())), size(first, second)))
    assert found == stored()[f"{first} x {second}"], "run scripts/write_combinations.py and look at what changed"


@pytest.mark.parametrize("part", range(4))
def test_rows_of_pairs_that_run(part, record_property):
    """Every pair again, in company that no pair speaks against: the few still refused are conflicts of three."""
    rows = covering({seat: list(members) for seat, members in AXES.items()}, refused_pairs(stored()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = [run(row) for row in rows[part::4]]
    runs = sum(outcome.refusal is None for outcome in outcomes)
    record_property("combinations of eight", (runs, len(outcomes)))
    assert runs > 0.9 * len(outcomes)


def test_the_rows_cover_what_they_can():
    columns = {"a": ["1", "2"], "b": ["1", "2", "3"], "c": ["1", "2"]}
    forbidden = {(("a", "1"), ("b", "3")), (("b", "2"), ("c", "2"))}
    rows = covering(columns, forbidden)
    seen = set().union(*map(pairs_of, rows))
    assert not seen & forbidden
    assert len(seen) == 6 + 4 + 6 - 2
