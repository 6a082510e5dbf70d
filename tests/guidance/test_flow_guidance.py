"""Guidance on a Flow: which null means something, and which weaker flow may be compared with."""

from __future__ import annotations

import pytest
import torch

from advect import Flow, InputError, NetSpec, Run, Transport
from advect.codecs import Standardize
from advect.conditions import ClassLabel, Conditions, Vector
from advect.guidance import CFG, RAAG, AutoGuidance, Interval
from advect.interpolants import Cosine
from advect.networks import MLP
from advect.solvers import Euler

ITEMS = (ClassLabel(3), Vector(2))
GIVEN = {"label": 1, "vector": torch.tensor([0.3, -0.2])}


def flow(drop: dict[str, float], hidden: int = 8, items=ITEMS, **options) -> Flow:
    torch.manual_seed(0)
    made = Flow(MLP(NetSpec((2,), items), hidden=(hidden,)), conditions=Conditions(items, drop), **options)
    made.sampler = made.sampler.but(solver=Euler(), steps=3)
    return made


@pytest.mark.parametrize("drop", [{}, {"label": 0.1}, {"label": 0.1, "vector": 0.1}, {"label,vector": 0.0}])
def test_only_a_null_that_was_trained_is_compared_with(drop):
    made = flow(drop)
    with pytest.raises(InputError, match=r"without dropping label,vector: train with drop=\{'label,vector': 0\.1\}"):
        made.sample(2, seed=0, guidance=CFG(2.0), **GIVEN)
    made.sample(2, seed=0, guidance=CFG(1.0), **GIVEN)
    with pytest.raises(InputError, match="Interval compares with the null condition"):
        made.check(made.sampler.but(guidance=(Interval(RAAG(), 0.4, 0.6),)))


def test_conditions_dropped_together_have_a_null():
    flow({"vector,label": 0.1}).sample(2, seed=0, guidance=CFG(2.0), **GIVEN)


def test_guidance_of_nothing_is_warned_of():
    made = flow({"label,vector": 0.1, "label": 0.1})
    with pytest.warns(UserWarning, match="no condition is given: it changes nothing, so pass label or vector"):
        guided = made.sample(2, seed=0, guidance=CFG(2.0))
    assert torch.allclose(guided, made.sample(2, seed=0), atol=1e-6)


def test_a_weaker_flow_is_compared_with_and_is_no_part_of_the_flow(tmp_path):
    strong, weak = flow({}), flow({}, hidden=4)
    before = strong.weights_hash()
    assert strong.compare_with(weak) is strong
    run = Run()
    out = strong.sample(5, seed=0, run=run, guidance=AutoGuidance(2.0), **GIVEN)
    assert run.calls == {"model": 3, "weak": 3}
    x = strong.sample(5, seed=0, steps=1, **GIVEN)
    assert not torch.allclose(out, x)
    assert strong.weights_hash() == before
    strong.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="pass weak="):
        Flow.from_pretrained(tmp_path).sample(2, seed=0, guidance=AutoGuidance(), **GIVEN)
    strong.double()
    assert next(weak.network.parameters()).dtype == torch.float64


def test_one_step_by_hand():
    strong, weak = flow({}), flow({}, hidden=4)
    x0 = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    cond = {"label": torch.ones(5, dtype=torch.long), "vector": GIVEN["vector"].expand(5, 2)}
    zero = torch.zeros(5)
    v, v_weak = strong.network(x0, zero, **cond), weak.network(x0, zero, **cond)
    out = strong.compare_with(weak).sample(5, x0=x0, steps=1, guidance=AutoGuidance(2.5), **GIVEN)
    assert torch.allclose(out, x0 + v_weak + 2.5 * (v - v_weak), atol=1e-6)


def test_a_weaker_flow_of_other_states_is_refused():
    fitted = [Standardize() for _ in range(2)]
    for i, codec in enumerate(fitted):
        codec.fit(torch.randn(50, 2, generator=torch.Generator().manual_seed(i)) * (1 + i))
    cases = [
        (flow({}), flow({}, items=(ClassLabel(3),)), "the weaker flow has conditions"),
        (flow({}), flow({}, transport=Transport(interpolant=Cosine())), "the weaker flow has interpolant Cosine"),
        (flow({}), flow({}, codec=fitted[0]), "the weaker flow has codec"),
        (flow({}, codec=fitted[0]), flow({}, codec=fitted[1]), "codec has another"),
    ]
    for strong, weak, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            strong.compare_with(weak)
    flow({}, codec=fitted[0]).compare_with(flow({}, codec=fitted[0]))
