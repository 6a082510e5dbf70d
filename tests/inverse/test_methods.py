"""Laws of all inverse methods, windows on large pictures, L-BFGS by rows, and restoration with a whole flow."""

from __future__ import annotations

import math

import pytest
import torch

import advect
from advect.conditions import ClassLabel, Conditions
from advect.errors import InputError
from advect.fields import Run, bind
from advect.fitting import FitPriorWeights
from advect.interpolants import Cosine, Linear, StochasticInterpolant
from advect.inverse import (
    OTODE,
    CalibratedWeights,
    ConstantShare,
    ConstantWeight,
    DFlow,
    FixedShare,
    Flair,
    FlowChef,
    FlowDPS,
    InverseMethod,
    PnPFlow,
    Replacement,
    Tiled,
    TrajectoryAdjustment,
    relative_residual,
    restore,
)
from advect.inverse.lbfgs import minimise
from advect.inverse.operators import AverageDown, Box, Denoising, MotionBlur
from advect.networks import MLP, NetSpec
from advect.oracles import Gaussian, GaussianMixture, given_measurement
from advect.parts import build, config_of
from advect.saving import save_fitted
from advect.transport import Transport

F64 = torch.float64
SHAPE = (1, 4, 4)
METHODS: list[tuple[InverseMethod, int]] = [
    (Flair(steps=12), 12),
    (FlowDPS(2.0, grid=FlowDPS().grid.with_steps(12)), 12),
    (FlowChef(grid=FlowChef().grid.with_steps(12)), 12),
    (PnPFlow(12, 2), 24),
    (OTODE(steps=12), 12),
    (Replacement(grid=Replacement().grid.with_steps(12)), 12),
    (DFlow(iterations=6, steps=3), 0),
]
IDS = [type(method).__name__ for method, _ in METHODS]
PRIOR = Gaussian(torch.zeros(SHAPE).tolist(), 0.25)


@pytest.mark.parametrize(("method", "calls"), METHODS, ids=IDS)
@pytest.mark.parametrize("path", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_laws_of_methods(method, calls, path):
    """Nearer to the measurement than the prior, one call a time, seeded, without a graph, rebuilt from config."""
    operator = AverageDown(2, noise=0.05)
    x = PRIOR.sample(6, torch.Generator().manual_seed(0))
    y = operator.measure(x, torch.Generator().manual_seed(1))
    runs = [Run(torch.Generator().manual_seed(2)) for _ in range(2)]
    field = PRIOR.velocity(path)
    a, b = (method(field, y, operator, SHAPE, interpolant=path, run=run).x for run in runs)
    assert torch.equal(a, b)
    assert a.shape == (6, *SHAPE)
    assert bool(a.isfinite().all())
    assert not a.requires_grad
    assert runs[0].nfe == calls or (calls == 0 and runs[0].nfe > 0)
    prior = relative_residual(operator, PRIOR.sample(6, torch.Generator().manual_seed(3)), y)
    assert float(relative_residual(operator, a, y).mean()) < 0.6 * float(prior.mean())
    assert build(config_of(method)) == method
    single = method(field, y.float(), operator, SHAPE, interpolant=path, run=Run(torch.Generator().manual_seed(2))).x
    assert single.dtype == torch.float32
    with pytest.raises(InputError, match="give what it measured"):
        method(field, y[:, :, :1], operator, SHAPE)
    with pytest.raises(InputError, match="affine paths alone"):
        method(field, y, operator, SHAPE, interpolant=StochasticInterpolant())


@pytest.mark.parametrize("std", [0.5, 2.0])
def test_ot_ode_knows_how_wide_the_source_is(std):
    """The posterior N(y / 1.25, 0.2) of data N(0, 1) in noise 0.5, whatever the source is scaled by."""

    def field(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        t = torch.as_tensor(t, dtype=x.dtype)
        return (t - (1 - t) * std**2) * x / (t**2 + (1 - t) ** 2 * std**2)

    y, run = torch.full((4000, 1, 1, 1), 0.8, dtype=F64), Run(torch.Generator().manual_seed(0))
    x = OTODE(begin=0.01, steps=400)(field, y, Denoising(noise=0.5), (1, 1, 1), std=std, run=run).x
    assert float(x.mean()) == pytest.approx(0.64, abs=0.03)
    assert float(x.std()) == pytest.approx(math.sqrt(0.2), abs=0.03)


def test_ot_ode_is_exact_in_the_mean_where_all_is_gaussian():
    """Denoising under N(0, s^2) with the true spread of x1 given x_t would be exact; its r^2 is that of s = 1."""
    prior, operator = Gaussian(torch.zeros(SHAPE).tolist(), 1.0), Denoising(noise=0.5)
    y = torch.full((4000, *SHAPE), 0.8, dtype=F64)
    method = OTODE(begin=0.01, steps=400)
    x = method(prior.velocity(), y, operator, SHAPE, run=Run(torch.Generator().manual_seed(0))).x
    assert float(x.mean()) == pytest.approx(0.8 / (1 + 0.5**2), abs=0.02)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Flair(steps=0), "steps is 0"),
        (lambda: Flair(end=1.0), "end is 1.0"),
        (lambda: Flair(residual="x"), "residual is 'x'"),
        (lambda: ConstantWeight(2.0), "from 2 on they diverge"),
        (lambda: ConstantShare(0.0), "beta is 0.0"),
        (lambda: CalibratedWeights("first"), "offset is 'first'"),
        (lambda: CalibratedWeights().at([0.5], Linear()), "not calibrated: run advect calibrate"),
        (lambda: CalibratedWeights().fit(torch.tensor([1.0, -1.0])), "none below 0"),
        (lambda: FixedShare(1.5), "share is 1.5"),
        (lambda: TrajectoryAdjustment(scale=2.0), "scale is 2.0"),
        (lambda: Flair().consistency.__class__(rate=0.0), "rate 0.0"),
        (lambda: FlowDPS(0.0), "rate is 0.0"),
        (lambda: FlowChef(loss="cube"), "loss is 'cube'"),
        (lambda: PnPFlow(0), "steps is 0"),
        (lambda: DFlow(keep=2.0), "keep 2.0"),
        (lambda: OTODE(begin=0.0), "begin 0.0"),
        (lambda: Tiled(lambda x, t: x, (4, 4), 4), "overlap is 4"),
        (lambda: FitPriorWeights(points=1), "points 1"),
    ],
)
def test_settings_that_cannot_work_are_named(make, sentence):
    with pytest.raises(InputError) as refused:
        make()
    assert sentence in str(refused.value)


def test_windows_reproduce_a_local_field_and_count_their_rows():
    def local(x, t, label=None):
        return (t + 1) * x if label is None else (t + 1) * x + label.reshape(-1, 1, 1, 1)

    x = torch.randn(2, 3, 11, 9, generator=torch.Generator().manual_seed(0), dtype=F64)
    label, run = torch.tensor([1.0, 5.0], dtype=F64), Run()
    tiled = Tiled(local, (4, 5), 2)
    assert (bind(tiled, run, label=label)(x, 0.3) - local(x, 0.3, label)).abs().max() < 1e-12
    times = torch.tensor([0.1, 0.7], dtype=F64)
    each = torch.cat([local(x[i : i + 1], float(times[i])) for i in range(2)])
    assert (Tiled(lambda x, t: (t[:, None, None, None] + 1) * x, (4, 5), 2)(x, times) - each).abs().max() < 1e-12
    corners = tiled.corners((11, 9))
    assert run.rows["model"] == 2 * len(corners)
    assert run.nfe == 1
    assert max(i for i, _ in corners) == 7
    covered = torch.zeros(11, 9)
    for i, j in corners:
        covered[i : i + 4, j : j + 5] += 1
    assert bool((covered > 0).all())
    with pytest.raises(InputError, match="smaller than the prior"):
        tiled(x[..., :3, :], 0.1)


def test_no_seam_between_windows():
    """A field that knows its window's middle only: blended velocities are continuous where windows meet."""
    seen = Tiled(lambda x, t: x.mean((2, 3), keepdim=True).expand_as(x), (8, 8), 4)
    ramp = torch.arange(24.0).expand(1, 1, 8, 24)
    steps = seen(ramp, 0.5)[0, 0, 0].diff().abs()
    hard = Tiled(lambda x, t: x.mean((2, 3), keepdim=True).expand_as(x), (8, 8), 0)(ramp, 0.5)[0, 0, 0].diff().abs()
    assert float(steps.max()) < 0.4 * float(hard.max())


def test_lbfgs_solves_each_row_for_itself():
    scales = torch.tensor([1.0, 100.0, 1e4], dtype=F64)
    matrix = torch.stack([torch.diag(torch.linspace(1, 30, 12, dtype=F64) * s) for s in scales])
    goal = torch.randn(3, 12, generator=torch.Generator().manual_seed(0), dtype=F64)

    def target(x):
        off = torch.einsum("bij,bj->bi", matrix, x - goal)
        return 0.5 * ((x - goal) * off).sum(1), off

    found = minimise(target, torch.zeros(3, 12, dtype=F64), 60)
    assert (found - goal).abs().max() < 1e-5
    alone = minimise(lambda x: tuple(v[1:2] for v in target(x.expand(3, -1))), torch.zeros(1, 12, dtype=F64), 60)
    assert (alone - found[1:2]).abs().max() < 1e-9


def test_exact_posterior_of_a_mixture_given_a_measurement():
    g = torch.Generator().manual_seed(0)
    mixture = GaussianMixture((0.3, 0.7), ((-1.0, 0.5), (1.0, -0.5)), (0.2, ((0.5, 0.2), (0.2, 0.3))))
    matrix, noise = torch.tensor([[1.0, 2.0]], dtype=F64), 0.5
    x = mixture.sample(400_000, g)
    y = x @ matrix.T + noise * torch.randn(len(x), 1, generator=g, dtype=F64)
    near = x[(y[:, 0] - 0.4).abs() < 0.02]
    exact = given_measurement(mixture, matrix, torch.tensor([0.4]), noise)
    draws = exact.sample(100_000, g)
    assert (near.mean(0) - draws.mean(0)).abs().max() < 0.03
    assert (near.T.cov() - draws.T.cov()).abs().max() < 0.03
    with pytest.raises(InputError, match="a noise above 0"):
        given_measurement(mixture, matrix, torch.tensor([0.4]), 0.0)


@pytest.fixture
def flow() -> advect.Flow:
    torch.manual_seed(0)
    label = ClassLabel(3)
    net = MLP(NetSpec((1, 4, 4), (label,)), hidden=(16,))
    return advect.Flow(net, conditions=Conditions((label,), {"label": 0.1}))


def test_restore_with_a_flow_numbers_its_draws_and_covers_larger_pictures(flow):
    operator = AverageDown(2)
    y = torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    whole = restore(flow, y, operator, Flair(steps=4), seed=3, label=1)
    part = restore(flow, y[4:], operator, Flair(steps=4), seed=3, first=4, label=1)
    assert torch.allclose(whole.x[4:], part.x, atol=1e-5)
    assert whole.run.rows["model"] == 24
    large = restore(flow, torch.randn(1, 1, 5, 3), operator, Flair(steps=2), shape=(1, 10, 6))
    assert large.x.shape == (1, 1, 10, 6)
    with pytest.raises(InputError, match="never resized silently"):
        restore(flow, y, operator, shape=(1, 2, 2))
    with pytest.raises(InputError, match="3 channels and the prior 1"):
        restore(flow, y, operator, shape=(3, 4, 4))
    flow.transport = Transport(inherited_refusal="it was reflowed")
    with pytest.raises(InputError, match="noised anew on the way: it was reflowed"):
        restore(flow, y, operator)


def test_prior_weights_are_fitted_saved_and_tied_to_their_flow(flow, tmp_path):
    from advect.data import Tensors

    data = Tensors(torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(1)))
    batch = data.batch("train", torch.arange(30))
    fit = FitPriorWeights(samples=30, points=12)
    part = fit(flow, batch, seed=0)
    assert part.fitted_on == flow.weights_hash()
    assert part.errors.shape == (12,)
    assert torch.equal(fit(flow, batch, seed=0).errors, part.errors)
    for size in (1, 7, 29):  # every sample has noise of its own number: what is left is rounding
        errors = FitPriorWeights(samples=30, points=12, batch_size=size)(flow, batch, seed=0).errors
        torch.testing.assert_close(errors, part.errors, rtol=1e-5, atol=0)
    assert max(Flair(weights=part).shares(_problem())[1]) == pytest.approx(0.85, abs=1e-9)
    assert len(fit.summary(part)) == 3
    flow.save_pretrained(tmp_path / "flow")
    save_fitted(tmp_path / "flow", "prior-weights", part)
    again = advect.Flow.from_pretrained(tmp_path / "flow").fitted["prior-weights"]
    assert isinstance(again, CalibratedWeights)
    assert torch.equal(again.errors, part.errors)
    assert again.fitted_on == part.fitted_on
    guided = FitPriorWeights(samples=30, points=12)(flow, batch, seed=0, cond={"label": 2})
    assert not torch.equal(guided.errors, part.errors)


def _problem():
    from advect.inverse import Problem

    return Problem(lambda x, t: x, torch.zeros(1, 1, 4, 4), Denoising(), (1, 4, 4))


def test_motion_blur_steps_are_stable_in_units_of_its_norm():
    operator = MotionBlur(5, seed=1)
    x = PRIOR.sample(3, torch.Generator().manual_seed(0)).repeat(1, 1, 4, 4)
    y = operator.measure(x, torch.Generator().manual_seed(1))
    prior = Gaussian(torch.zeros(1, 16, 16).tolist(), 0.25)
    found = Flair(steps=20)(prior.velocity(), y, operator, (1, 16, 16), run=Run(torch.Generator().manual_seed(2))).x
    start = relative_residual(operator, operator.back_projection(y, (1, 16, 16)), y)
    assert float(relative_residual(operator, found, y).mean()) < 0.5 * float(start.mean())
    assert math.isfinite(float(found.abs().max()))
    assert Box(0, 0, 1, 1).noise == 0.01
