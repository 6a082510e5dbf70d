"""A flow made of a pipeline is a flow like any other: texts, solvers, restoration, types, a weaker one beside it."""

from __future__ import annotations

import pytest
import tiny
import torch
from published import STEPS

from advect.adapters import from_pipeline
from advect.errors import InputError
from advect.guidance import CFG, AutoGuidance
from advect.inverse import OTODE, Flair, FlowDPS, restore
from advect.inverse.operators import AverageDown, Box
from advect.solvers import Heun
from advect.times import ShiftedGrid, TimeGrid


def test_texts_are_read_once_and_remembered(sd3):
    pipe, _ = sd3
    flow = from_pipeline(pipe, 32, 32, steps=3)
    calls = []
    encoder = flow.network._texts[0]
    inner = encoder.encode
    encoder.encode = lambda text: calls.append(text) or inner(text)
    flow.sample(4, prompt="a red cube", guidance=CFG(2.0), batch_size=2, seed=0)
    assert sorted(calls) == ["", "a red cube"]


def test_the_prompt_and_its_negative_count(sd3):
    _, flow = sd3
    options = {"guidance": CFG(3.0), "seed": 0}
    x = flow.sample(2, prompt="a red cube", **options)
    assert torch.equal(x, flow.sample(2, **flow.network.tell("a red cube"), **options))
    assert (x[1:] - flow.sample(1, prompt="a red cube", first=1, **options)).abs().max() < 1e-5
    for other in ("a blue cube", "a red cub", "é"):
        assert (flow.sample(2, prompt=other, **options) - x).abs().max() > 1e-4
    assert (flow.sample(2, **flow.network.tell("a red cube", negative="b"), **options) - x).abs().max() > 1e-4
    pipe_level = from_pipeline(sd3[0], 32, 32, steps=STEPS, negative="b").sample(2, prompt="a red cube", **options)
    assert torch.equal(pipe_level, flow.sample(2, **flow.network.tell("a red cube", negative="b"), **options))
    with pytest.warns(UserWarning, match="no condition is given"):
        nothing = flow.sample(2, **options)
    assert (nothing - flow.sample(2, prompt="", seed=0)).abs().max() < 1e-5


def test_any_solver_and_grid(sd3):
    _, flow = sd3
    x = flow.sample(1, prompt="a", seed=0, solver=Heun(), grid=TimeGrid(3))
    assert x.shape == (1, 3, 32, 32)
    assert flow.encode(x, prompt="a", solver=Heun(), grid=4).shape == (1, *flow.shape)
    assert len(flow.weights_hash()) == 64
    assert flow.weights_hash() == from_pipeline(sd3[0], 48, 32).weights_hash()


@pytest.mark.parametrize(
    "method", [Flair(steps=6), FlowDPS(grid=ShiftedGrid(6, 4.0)), OTODE(steps=3)], ids=lambda m: type(m).__name__
)
def test_restoration_through_the_autoencoder(sd3, method):
    """OT-ODE differentiates the transformer, the others the decoder alone."""
    pipe, flow = sd3
    x = flow.sample(2, prompt="a red cube", seed=5).detach()
    operator = Box(8, 8, 12, 12, noise=0.05)
    y = operator.measure(x, torch.Generator().manual_seed(0))
    found = restore(flow, y, operator, method, prompt="a red cube", guidance=(CFG(2.0),))
    assert found.x.shape == x.shape
    assert found.x.isfinite().all()
    start = flow.codec.decode(flow.codec.encode(operator.back_projection(y, (3, 32, 32))))
    if isinstance(method, Flair):
        residual, before = (operator(z) - y for z in (found.x, start))
        assert residual.square().mean() < 0.5 * before.square().mean()
    again = restore(flow, y, operator, method, prompt="a red cube", guidance=(CFG(2.0),))
    assert torch.equal(found.x, again.x)
    assert all(p.grad is None for part in (pipe.transformer, pipe.vae) for p in part.parameters())


def test_every_pipeline_of_pictures_is_a_prior(made):
    name, _, flow = made
    operator = Box(8, 8, 12, 12, noise=0.05)
    if name == "wan":
        with pytest.raises(InputError, match="restoration is of pictures"):
            restore(flow, torch.zeros(1, 3, 32, 32), operator, prompt="a")
        return
    y = operator.measure(flow.sample(2, prompt="a", seed=3), torch.Generator().manual_seed(0))
    found = restore(flow, y, operator, Flair(steps=6), prompt="a")
    back = operator.back_projection(y, tuple(found.x.shape[1:]))
    residual, before = (operator(x) - y for x in (found.x, flow.codec.decode(flow.codec.encode(back))))
    assert residual.square().mean() < 0.5 * before.square().mean()


def test_a_larger_picture_is_tiled(sd3):
    _, flow = sd3
    operator = AverageDown(2, noise=0.05)
    y = torch.rand(1, 3, 16, 24) * 2 - 1
    found = restore(flow, y, operator, Flair(steps=2), shape=(3, 32, 48), prompt="a red cube")
    assert found.x.shape == (1, 3, 32, 48)


def test_half_precision_weights_keep_float32_states(tmp_path):
    pipe = tiny.sd3(tmp_path).to(torch.bfloat16)
    flow = from_pipeline(pipe, 32, 32, steps=3)
    x = flow.sample(2, prompt="a", seed=0, record=True).states
    assert x.dtype == torch.float32
    assert flow.sample(1, prompt="a", seed=0).dtype == torch.float32
    exact = from_pipeline(tiny.sd3(tmp_path), 32, 32, steps=3).sample(2, prompt="a", seed=0, record=True).states
    assert 0 < (x - exact).abs().max() < 0.3


def test_everything_moves_along(sd3):
    pipe, flow = sd3
    flow.sample(1, prompt="a", steps=2)
    flow.to(torch.float64)
    assert flow.network.told(flow.network.tell(["a"]), torch.zeros(1))["pooled_projections"].dtype == torch.float64
    assert (
        not flow.network._texts[0]
        .known["a"]["pooled_projections"]
        .float()
        .double()
        .equal(flow.network._texts[0].known["a"]["pooled_projections"])
    )  # read anew in float64
    assert pipe.text_encoder.dtype == pipe.text_encoder_3.dtype == torch.float64
    assert flow.sample(1, prompt="a", seed=0, steps=2).dtype == torch.float64
    flow.to(torch.float32)


def test_a_weaker_pipeline_to_compare_with(sd3):
    pipe, flow = sd3
    other = from_pipeline(pipe, 32, 32, steps=STEPS)
    torch.manual_seed(9)
    other.network.transformer = tiny.sd3_transformer()
    guided = flow.but().compare_with(other).sample(1, prompt="a", seed=0, guidance=AutoGuidance(2.0))
    assert (guided - flow.sample(1, prompt="a", seed=0)).abs().max() > 1e-3
