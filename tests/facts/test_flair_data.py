"""Facts of FLAIR: data steps, what is differentiated, and the small experiment on a mixture (docs/systems/flair.md)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from advect.codecs import Codec, PixelUnshuffle
from advect.fields import Run
from advect.fitting import velocity_errors
from advect.inverse import (
    OTODE,
    CalibratedWeights,
    Consistency,
    DFlow,
    FixedShare,
    Flair,
    FlowChef,
    FlowDPS,
    PnPFlow,
    Problem,
    Replacement,
    relative_residual,
)
from advect.inverse.operators import AverageDown, Box
from advect.metrics.quadratic import energy_distance
from advect.oracles import GaussianMixture, given_measurement
from advect.randomness import generator

HOLE, SR = Box(2, 2, 5, 5), AverageDown(2)
SHAPE = (1, 8, 8)
F64 = torch.float64


def smooth(n: int, std: float, g: torch.Generator) -> torch.Tensor:
    i = torch.arange(8.0, dtype=F64)
    k = torch.exp(-0.5 * ((i[:, None] - i) / 1.5) ** 2)
    k = k / k.sum(1, keepdim=True)
    z = k @ torch.randn(n, 8, 8, generator=g, dtype=F64) @ k.T
    return z / z.flatten(1).std(1)[:, None, None] * std


@pytest.fixture(scope="module")
def mixture() -> GaussianMixture:
    g = generator(0, "templates")
    means, covariances = smooth(12, 0.5, g), []
    for _ in range(12):
        u = smooth(6, 0.15, g).flatten(1)
        covariances.append((u.T @ u / 6 + 0.03**2 * torch.eye(64, dtype=F64)).tolist())
    return GaussianMixture([1 / 12] * 12, means[:, None].tolist(), covariances)


@pytest.fixture(scope="module")
def weights(mixture) -> CalibratedWeights:
    g = generator(0, "calibration")
    errors = velocity_errors(mixture.velocity(), mixture.sample(300, g), generator=g)
    return CalibratedWeights("last", max_beta=0.75).fit(errors)


def measured(mixture, operator, n=4, repeat=16):
    g = generator(1, "pictures")
    y = operator.measure(mixture.sample(n, g), g)
    matrix = operator(torch.eye(64, dtype=F64).reshape(64, *SHAPE)).flatten(1).T
    exact = [given_measurement(mixture, matrix, one, operator.noise).sample(64, g) for one in y]
    return y.repeat_interleave(repeat, 0), exact


@pytest.mark.parametrize("operator", [HOLE, SR], ids=["hole", "sr"])
def test_fact_07_data_steps_stop_at_the_noise(mixture, weights, operator):
    y, _ = measured(mixture, operator)
    run = Run(generator(0, "run"))
    x = Flair(weights=weights)(mixture.velocity(), y, operator, SHAPE, run=run).x
    ratio = relative_residual(operator, x, y)
    assert float(ratio.max()) <= 1.0
    assert 0.8 < float(ratio.mean()) <= 1.0
    single = Flair(weights=weights, consistency=Consistency(steps=1))
    free = relative_residual(
        operator, single(mixture.velocity(), y, operator, SHAPE, run=Run(generator(0, "run"))).x, y
    )
    assert 3 < float(free.mean()) < 40


def test_fact_07_a_satisfied_start_takes_no_step_and_each_sample_stops_for_itself():
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=F64)
    here = Problem(lambda x, t: x, HOLE(x), HOLE, SHAPE)
    start = x.clone()
    start[1] += 0.3  # far off; sample 2 lies within the noise
    start[2] += 0.009
    out, taken, passes = Consistency(steps=4, rate=0.2)(here, start, 0.5, 1.0)
    assert torch.equal(out[0], start[0])
    assert torch.equal(out[2], start[2])
    assert taken.tolist() == [0, 4, 0]
    assert passes == 4
    alone = Problem(lambda x, t: x, HOLE(x[1:2]), HOLE, SHAPE)
    assert torch.equal(Consistency(steps=4, rate=0.2)(alone, start[1:2], 0.5, 1.0)[0], out[1:2])
    # one step is mu - lr w grad of the SUM of squares: twice the residual on observed pixels
    once = Consistency(steps=1, rate=0.2)(alone, start[1:2], 0.5, 1.0)[0]
    seen = HOLE.observed(8, 8)
    assert ((once - start[1:2])[..., seen] + 0.2 * 0.5 * 2 * 0.3).abs().max() < 1e-12
    assert torch.equal(once[..., ~seen], start[1:2][..., ~seen])
    satisfied, none, passes = Consistency()(Problem(lambda x, t: x, HOLE(x), HOLE, SHAPE), x, 0.5, 1.0)
    assert torch.equal(satisfied, x)
    assert int(none.sum()) == passes == 0


class Counted(Codec):
    """A decoder that counts how often it is differentiated, around a fixed linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.backwards = 0

    def encode(self, x, generator=None):
        return x / 2

    def decode(self, z):
        out = z * 2
        if out.requires_grad:
            out.register_hook(self._note)
        return out

    def _note(self, grad):
        self.backwards += 1
        return grad


def test_fact_08_no_gradient_reaches_the_network_and_the_decoder_gets_one_pass_a_data_step():
    net, modes, codec = nn.Linear(8, 8).double(), [], Counted()

    def field(x, t):
        modes.append(torch.is_grad_enabled())
        return net(x)

    y = torch.randn(1, 39, generator=torch.Generator().manual_seed(0), dtype=F64)
    run = Run(torch.Generator().manual_seed(0))
    with torch.enable_grad():
        Flair(steps=6)(field, y, HOLE, SHAPE, codec=codec, run=run)
    assert modes == [False] * 6
    assert all(p.grad is None for p in net.parameters())
    assert codec.backwards == int(run.log["data steps"][0]) == run.log["decoder passes"][0] > 0
    for method in (OTODE(steps=3), DFlow(steps=2, iterations=3)):  # through the network, and still no gradient on it
        before = len(modes)
        method(field, y, HOLE, SHAPE, codec=codec, run=Run(torch.Generator().manual_seed(0)))
        assert any(modes[before:])
        assert all(p.grad is None for p in net.parameters())


def test_a_permuting_codec_changes_nothing(mixture, weights):
    """The same prior on blocks of pixels as channels gives the same law of samples."""
    y, _ = measured(mixture, SR, repeat=64)
    codec, prior = PixelUnshuffle(2), mixture.velocity()

    def folded(z, t):
        return codec.encode(prior(codec.decode(z), t))

    found = Flair(weights=weights)(folded, y, SR, SHAPE, codec=codec, run=Run(generator(3, "codec")))
    assert found.state.shape == (256, 4, 4, 4)
    plain = Flair(weights=weights)(prior, y, SR, SHAPE, run=Run(generator(4, "plain")))
    for a, b in zip(found.x.split(64), plain.x.split(64), strict=True):
        assert float(energy_distance(a, b)) < 0.02


def test_half_precision_of_the_network_costs_three_digits_not_all(mixture, weights):
    """The step towards x1hat never divides a difference of velocities by 1 - t."""
    y, _ = measured(mixture, HOLE, repeat=4)
    exact = mixture.velocity()
    full, half = (
        Flair(weights=weights)(field, y.float(), HOLE, SHAPE, run=Run(generator(0, "half"))).x
        for field in (exact, lambda x, t: exact(x, t).half())
    )
    assert half.dtype == torch.float32
    assert float((full - half).abs().mean()) < 0.01


def distance(method, mixture, operator, repeat=64):
    y, exact = measured(mixture, operator, repeat=repeat)
    x = method(mixture.velocity(), y, operator, SHAPE, run=Run(generator(0, "samples"))).x
    parts = x.reshape(len(exact), repeat, -1)
    return sum(float(energy_distance(a, b)) for a, b in zip(parts, exact, strict=True)) / len(exact)


@pytest.mark.parametrize(("operator", "dta", "hdc"), [(HOLE, 1.3, 3.0), (SR, 1.2, 3.0)], ids=["hole", "sr"])
def test_each_part_brings_samples_nearer_to_the_exact_posterior(mixture, weights, operator, dta, hdc):
    full = distance(Flair(weights=weights), mixture, operator)
    assert 0.01 < full < 0.15
    assert distance(Flair(weights=weights, renoise=FixedShare(0.0)), mixture, operator) > dta * full
    assert distance(Flair(weights=weights, consistency=Consistency(steps=1)), mixture, operator) > hdc * full


@pytest.mark.parametrize(
    ("method", "near"),
    [
        (FlowChef(0.5), 0.1),
        (Replacement(), 0.1),
        (OTODE(), 0.3),
        (FlowDPS(2.0), 0.3),
        (PnPFlow(50, draws=1, power=0.2), 0.3),
        (DFlow(iterations=5), 5.0),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, float) else "",
)
def test_every_baseline_explains_its_measurement_better_than_the_prior_alone(mixture, method, near):
    """Each within what it reaches here, all far nearer to the posterior than draws of the prior (about 6)."""
    assert distance(method, mixture, HOLE, repeat=16) < near
    _, exact = measured(mixture, HOLE)
    prior = mixture.sample(64, generator(5, "prior"))
    assert sum(float(energy_distance(prior, e)) for e in exact) / 4 > near
