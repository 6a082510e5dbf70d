"""Weak orders of the stochastic solvers, by the script that writes them into the docs."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_weak_orders.py"
_spec = importlib.util.spec_from_file_location("measure_weak_orders", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)

SECOND = ("`StochasticHeun(SourceNoise())`", "`StochasticHeun(ReverseNoise())`", "`SDEDPMpp(2)`")


@pytest.mark.parametrize("name", script.SOLVERS)
def test_the_error_of_the_variance_falls_with_the_weak_order(name: str):
    coarse, fine = (abs(script.errors(script.SOLVERS[name], n)[1]) for n in (80, 160))
    assert math.log2(coarse / fine) == pytest.approx(2.0 if name in SECOND else 1.0, abs=0.2)


def test_the_moments_of_one_step_are_those_by_hand():
    """Euler-Maruyama from t=.05 to .95 in one step at e = g, written out."""
    from advect.solvers import EulerMaruyama, SourceNoise

    mean, variance = script.moments(0.05)
    rate, h, e = (0.05 * 0.7**2 - 0.95) / variance, 0.9, 0.95
    slope = 1 + h * (rate - e / variance)
    found = script.errors(EulerMaruyama(SourceNoise()), 1)
    assert found[0] == pytest.approx(mean + h * 1.2 - 0.95 * 1.2, abs=1e-12)
    assert found[1] == pytest.approx(slope**2 * variance + 2 * e * h - script.moments(0.95)[1], abs=1e-12)
