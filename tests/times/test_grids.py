"""Laws over all grids: ends, monotone, steps, reversal; and the closed forms of each."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from advect import times
from advect.errors import InputError
from advect.interpolants import VE, VPSDE, Cosine, Linear
from advect.parts import build, config_of
from advect.times import BellmanGrid, BetaGrid, CustomGrid, EDMGrid, Grid, LogSNRGrid, Reversed, ShiftedGrid, TimeGrid

GRIDS = [
    TimeGrid(7),
    TimeGrid(5, 0.9, 0.2),
    LogSNRGrid(7),
    LogSNRGrid(6, -2.0, 3.0, whole=False),
    EDMGrid(9),
    EDMGrid(9, append_data=False),
    ShiftedGrid(8, 3.0),
    BetaGrid(8),
    CustomGrid((0.0, 0.4, 0.7, 1.0), restarts=(1,)),
    Reversed(CustomGrid((0.0, 0.4, 0.7, 1.0), restarts=(1,))),
    Reversed(EDMGrid(4)),
    BellmanGrid.from_costs(torch.ones(17, 17).cumsum(1).square().triu(1), [i / 16 for i in range(17)], 5),
]


def test_every_grid_is_in_the_table():
    members = {c for c in vars(times).values() if isinstance(c, type) and issubclass(c, Grid) and c is not Grid}
    assert members == {type(grid) for grid in GRIDS}


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("path", [Linear(), Cosine(), VPSDE()], ids=lambda p: type(p).__name__)
def test_steps_and_monotone(grid, path):
    nodes = grid.times(path)
    assert len(nodes) == grid.steps + 1
    assert all(isinstance(t, float) and 0 <= t <= 1 for t in nodes)
    assert len({b > a for a, b in itertools.pairwise(nodes)}) == 1
    assert all(a != b for a, b in itertools.pairwise(nodes))
    assert all(0 < i < grid.steps for i in grid.breaks)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_rebuilt_reversed_and_with_other_steps(grid):
    if not isinstance(grid, BellmanGrid):  # its costs are tensors, which a config does not hold
        assert build(config_of(grid)) == grid
    assert Reversed(grid).times(Linear()) == grid.times(Linear())[::-1]
    if isinstance(grid, CustomGrid) or isinstance(getattr(grid, "grid", None), CustomGrid):
        with pytest.raises(InputError, match="has the 3 steps it was given"):
            grid.with_steps(12)
    else:
        assert len(grid.with_steps(12).times(Linear())) == 13


def test_reversed_breaks():
    grid = CustomGrid((0.0, 0.4, 0.7, 1.0), restarts=(1,))
    back = Reversed(grid)
    assert back.times()[back.breaks[0]] == grid.times()[grid.breaks[0]] == 0.4


def test_log_snr_grid_is_even_in_log_snr():
    for path in (Linear(), Cosine(), VPSDE(), VE()):
        nodes = LogSNRGrid(6, -3.0, 3.0, whole=False).times(path)
        lam = path.half_log_snr(torch.tensor(nodes, dtype=torch.float64))
        assert (lam - torch.linspace(-3, 3, 7, dtype=torch.float64)).abs().max() < 1e-9
    whole = LogSNRGrid(8, -3.0, 3.0).times(Linear())
    assert (whole[0], whole[-1]) == (0.0, 1.0)
    assert whole[1:-1] == LogSNRGrid(6, -3.0, 3.0, whole=False).times(Linear())


def test_edm_grid():
    nodes = EDMGrid(18).times(Linear())
    ratio = [(1 - t) / t for t in nodes]
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert nodes[0] == pytest.approx(1 / 81)
    assert ratio[:-1] == pytest.approx(expected, rel=1e-9)
    assert nodes[-1] == 1.0
    assert EDMGrid(18).times(Cosine())[9] == pytest.approx(2 / math.pi * math.atan(1 / expected[9]))
    with pytest.raises(InputError, match="cannot be added"):  # g(1) = .002 on VE: there is no t with g = 0
        EDMGrid(18).times(VE())
    assert EDMGrid(17, append_data=False).times(VE())[-1] == pytest.approx(1.0)


def test_shifted_grid():
    nodes = ShiftedGrid(10, 3.0).times()
    for i, t in enumerate(nodes[1:-1], 1):
        u = i / 10
        assert math.log(t / (1 - t)) == pytest.approx(math.log(u / (1 - u)) - math.log(3.0))
    assert ShiftedGrid(10, 1.0).times() == pytest.approx(TimeGrid(10).times())


def test_beta_grid():
    assert BetaGrid(10, 1.0, 1.0).times() == pytest.approx(TimeGrid(10).times())
    nodes = BetaGrid(10).times()
    assert nodes == pytest.approx([1 - t for t in nodes[::-1]])
    assert nodes[1] < 0.1
    arcsine = BetaGrid(10, 0.5, 0.5).times()
    assert arcsine == pytest.approx([math.sin(math.pi * i / 20) ** 2 for i in range(11)])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: TimeGrid(5, 0.5, 0.5), "two different times"),
        (lambda: TimeGrid(5, 0.0, 1.5), r"end=1\.5"),
        (lambda: TimeGrid(0), "steps is 0"),
        (lambda: LogSNRGrid(2), "at least 3 steps"),
        (lambda: LogSNRGrid(5, 2.0, -2.0), "low is below high"),
        (lambda: LogSNRGrid(5).times(), "pass the interpolant"),
        (lambda: EDMGrid(5, sigma_min=3.0, sigma_max=1.0), "sigma_min=3.0"),
        (lambda: ShiftedGrid(5, 0.0), "shift is 0.0"),
        (lambda: BetaGrid(5, -1.0), "alpha=-1.0"),
        (lambda: CustomGrid((0.5,)), "at least 2 times"),
        (lambda: CustomGrid((0.0, 1.2)), r"times lie in \[0, 1\]"),
        (lambda: CustomGrid((0.0, 0.5, 0.4, 1.0)), "neither rise nor fall"),
        (lambda: CustomGrid((0.0, 0.5, 1.0), restarts=(2,)), "inner nodes are 1 to 1"),
    ],
)
def test_bad_grids_are_named(make, match):
    with pytest.raises(InputError, match=match):
        make()
