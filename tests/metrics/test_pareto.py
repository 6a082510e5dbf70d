"""Fronts by hand: what is kept, what lies between the points, and what two fronts say at equal quality."""

from __future__ import annotations

import math
import random

import pytest

from advect.errors import InputError
from advect.metrics import Front, Point, compare_fronts, pareto_front


def _front(*pairs: tuple[float, float]) -> Front:
    return pareto_front([Point(q, c) for q, c in pairs])


def test_what_is_beaten_in_both_figures_is_not_on_the_front():
    front = _front((0.5, 1.0), (0.6, 2.0), (0.55, 2.5), (0.6, 3.0), (0.9, 4.0), (0.4, 1.0), (0.2, 9.0))
    assert [(p.quality, p.cost) for p in front.points] == [(0.5, 1.0), (0.6, 2.0), (0.9, 4.0)]
    assert (front.low, front.high) == (0.5, 0.9)
    assert front.nearest(0.7).quality == 0.6


def test_a_front_agrees_with_the_definition_on_random_points():
    draw = random.Random(0)
    for _ in range(50):
        points = [Point(draw.randint(0, 9) / 10, draw.randint(0, 9) / 10) for _ in range(12)]
        beaten = {
            p for p in points for q in points
            if q != p and q.quality >= p.quality and q.cost <= p.cost
        }  # fmt: skip
        assert set(pareto_front(points).points) == set(points) - beaten


def test_between_points_the_cost_is_on_the_line_and_outside_there_is_none():
    front = _front((0.5, 1.0), (0.6, 2.0), (0.9, 5.0))
    assert front.cost_at(0.5) == 1.0
    assert front.cost_at(0.55) == pytest.approx(1.5)
    assert front.cost_at(0.8) == pytest.approx(4.0)
    assert front.cost_at(0.9) == 5.0
    assert math.isnan(front.cost_at(0.49))
    assert math.isnan(front.cost_at(0.91))


def test_fronts_are_compared_over_the_range_that_both_span():
    ours, other = _front((0.4, 1.0), (0.8, 3.0)), _front((0.6, 4.0), (0.7, 4.5), (1.0, 9.0))
    found = compare_fronts(ours, other)
    assert (found.low, found.high) == (0.6, 0.8)
    assert found.ours == pytest.approx(2.5)  # the line from 2 to 3
    assert found.other == pytest.approx((0.5 * (4.0 + 4.5) + 0.5 * (4.5 + 6.0)) / 2)
    assert found.ratio == pytest.approx(found.ours / found.other)
    assert found.sentence == ""
    back = compare_fronts(other, ours)
    assert back.ratio == pytest.approx(1 / found.ratio)


def test_the_best_point_of_each_would_say_the_opposite():
    """The second reaches the lower cost, at a quality that the first never stoops to; at equal quality it is worse."""
    ours, other = _front((0.8, 2.0), (0.9, 3.0)), _front((0.5, 1.0), (0.8, 2.5), (0.9, 4.0))
    assert min(p.cost for p in other.points) < min(p.cost for p in ours.points)
    assert compare_fronts(ours, other).ratio < 0.8


def test_fronts_that_meet_in_one_quality_and_fronts_that_do_not_meet():
    touching = compare_fronts(_front((0.2, 1.0), (0.5, 2.0)), _front((0.5, 4.0), (0.9, 5.0)))
    assert (touching.ours, touching.other) == (2.0, 4.0)
    apart = compare_fronts(_front((0.9, 1.0)), _front((0.2, 1.0), (0.5, 2.0)), names=("RAAG", "CFG"))
    assert math.isnan(apart.ratio)
    assert apart.sentence == "the fronts of RAAG and CFG do not overlap: RAAG starts at 0.9 and CFG ends at 0.5"
    assert (
        "CFG starts at 0.9 and RAAG ends at 0.5"
        in compare_fronts(_front((0.2, 1.0), (0.5, 2.0)), _front((0.9, 1.0)), names=("RAAG", "CFG")).sentence
    )


def test_refusals():
    with pytest.raises(InputError, match="points is empty"):
        pareto_front([])
    with pytest.raises(InputError, match=r"'w=3' has quality 0\.5 and cost nan"):
        pareto_front([Point(0.5, math.nan, "w=3")])
