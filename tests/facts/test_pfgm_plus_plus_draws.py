"""Facts of PFGM++ about draws: the radius law, one radius per sample, the Gaussian limit, the prior of a sampler."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from advect import Batch, Flow, NetSpec, Sampler, Transport
from advect.networks import MLP, Prediction
from advect.objectives import EDMWeight, FlowMatching, Networks
from advect.randomness import generator
from advect.solvers import EDMHeun
from advect.sources import Gaussian, Source, StudentT
from advect.times import EDMGrid, EDMLogNormal

special = pytest.importorskip("scipy.special")
F64 = torch.float64
LEVEL = 1.63  # of Kolmogorov's statistic at 1%: the gap is below LEVEL / sqrt(n)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _radii(source: Source, N: int, n: int = 20_000, seed: int = 0) -> Tensor:
    """|x0| of n draws, in parts so that they need little memory."""
    g = _seeded(seed)
    parts = [source.sample((2000, N), None, g, dtype=torch.float32).double().norm(dim=1) for _ in range(n // 2000)]
    return torch.cat(parts)


def _gap(radius: Tensor, N: int, D: float) -> float:
    """Largest gap between the empirical CDF and that of |x0|^2 / N ~ F(N, D), times sqrt(n)."""
    n = len(radius)
    cdf = torch.from_numpy(special.fdtr(N, D, (radius.sort().values ** 2 / N).numpy()))
    above, below = torch.arange(1, n + 1) / n - cdf, cdf - torch.arange(n) / n
    return float(torch.maximum(above, below).max()) * math.sqrt(n)


LAWS = [
    (3072, 128, (51.297, 55.564, 60.436)),
    (3072, 64, (49.863, 55.710, 62.770)),
    (3072, 1, (33.686, 82.164, 441.03)),
    (2, 1, (0.4843, 1.7321, 9.950)),
    (64, 4, (5.608, 8.687, 15.570)),
]


@pytest.mark.filterwarnings("ignore:df is 1")
@pytest.mark.parametrize(("N", "D", "quantiles"), LAWS)
def test_fact_03_the_radius_is_fishers(N, D, quantiles):
    radius = _radii(StudentT(D), N)
    assert _gap(radius, N, D) < LEVEL
    for share, exact in zip((0.1, 0.5, 0.9), quantiles, strict=True):
        assert math.sqrt(N * special.fdtri(N, D, share)) == pytest.approx(exact, rel=2e-4)
    for wrong in (D / 2, 2 * D):  # chi2 of half or twice the degrees
        assert _gap(radius, N, wrong) > 3 * LEVEL


def test_fact_03_the_clipped_beta_is_another_law():
    """R = sqrt(D B / (1 - B)), B ~ Beta(N/2, D/2) clipped to [1e-3, 1 - 1e-3], as the published code draws it."""

    def clipped(N: int, D: float) -> tuple[Tensor, float]:
        first, second = (torch.distributions.Gamma(torch.tensor(k / 2, dtype=F64), 1.0) for k in (N, D))
        a, b = first.sample((20_000,)), second.sample((20_000,))
        share = a / (a + b)
        kept = share.clamp(1e-3, 1 - 1e-3)
        return (D * kept / (1 - kept)).sqrt(), float((kept != share).double().mean())

    radius, share = clipped(3072, 1)
    assert share == pytest.approx(0.920, abs=0.01)
    assert float(radius.max()) == pytest.approx(31.6, abs=0.05)  # below the tenth percentile of the law, 33.7
    assert _gap(radius, 3072, 1) > 50 * LEVEL
    radius, share = clipped(2, 2048)
    assert share == pytest.approx(0.641, abs=0.01)
    assert _gap(radius, 2, 2048) > 50 * LEVEL
    radius, share = clipped(3072, 128)  # harmless where it is used
    assert share == 0
    assert _gap(radius, 3072, 128) < LEVEL


def test_fact_03_one_chi_squared_per_coordinate_has_another_radius():
    rows = torch.arange(2000 * 3072)
    x = StudentT(128).sample((len(rows), 1), None, _seeded(), rows=rows).reshape(2000, 3072)
    assert float(x.norm(dim=1).std()) < 1
    assert float(_radii(StudentT(128), 3072).std()) == pytest.approx(3.59, rel=0.05)
    assert _gap(x.norm(dim=1).double(), 3072, 128) > 5 * LEVEL


def test_fact_04_covariance_and_shared_radius():
    D, N, n = 12, 3, 400_000
    x = StudentT(D).sample((n, N), None, _seeded(), dtype=F64)
    covariance = x.T @ x / n
    torch.testing.assert_close(covariance, 1.2 * torch.eye(N, dtype=F64), rtol=0.02, atol=0.012)

    def coupling(x: Tensor) -> float:
        s = x.square()
        return float((s[:, 0] * s[:, 1]).mean() / (s[:, 0].mean() * s[:, 1].mean()))

    assert coupling(x) == pytest.approx((D - 2) / (D - 4), abs=0.06)
    alone = StudentT(D).sample((n * N, 1), None, _seeded(), dtype=F64).reshape(n, N)  # t noise by coordinate
    torch.testing.assert_close(alone.T @ alone / n, 1.2 * torch.eye(N, dtype=F64), rtol=0.02, atol=0.012)
    assert coupling(alone) == pytest.approx(1.0, abs=0.06)

    radius = x.norm(dim=1, keepdim=True)
    unit = x / radius
    assert unit.mean(0).norm() < 0.005
    assert torch.corrcoef(torch.cat([unit, radius], 1).T)[3, :3].abs().max() < 0.01


def test_fact_05_many_degrees_are_a_gaussian():
    radius = _radii(StudentT(1e6), 3072)
    chi = [math.sqrt(2 * special.gammaincinv(1536, share)) for share in (0.1, 0.5, 0.9)]
    found = radius.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=F64)).tolist()
    assert found == pytest.approx(chi, rel=1e-3)


def test_fact_05_the_edm_loss_tends_to_that_of_the_gaussian():
    """On the same z, noise levels and network; the single samples too."""
    torch.manual_seed(0)
    shape, n = (3072,), 512
    net = Prediction(MLP(NetSpec(shape), hidden=(32,)), "F")
    x1 = 0.5 * torch.randn(n, *shape, generator=_seeded(1)).clamp(-1, 1)
    edm = FlowMatching(EDMLogNormal(), EDMWeight())

    def loss(source: Source) -> Tensor:
        x0 = source.sample(x1.shape, None, _seeded(2))
        with torch.no_grad():
            return edm(Networks(net, transport=Transport(source)), Batch(x1, x0=x0), _seeded(3)).per_sample.double()

    gaussian = loss(Gaussian())
    relative = {D: abs(float(loss(StudentT(D)).mean() / gaussian.mean()) - 1) for D in (1e6, 1e4, 128)}
    assert relative[1e6] < 5e-4
    assert relative[1e6] < relative[1e4] < 5e-3
    assert 2e-3 < relative[128] < 0.1
    assert (loss(StudentT(1e6)) / gaussian - 1).abs().max() < 1e-2
    assert (loss(StudentT(128)) / gaussian - 1).abs().max() > 0.1


def test_fact_05_no_degrees_are_the_gaussian_bit_by_bit():
    x1 = torch.randn(64, 5, generator=_seeded(1))
    results = []
    for source in (Gaussian(), StudentT(None), StudentT(math.inf), StudentT(5)):
        torch.manual_seed(0)
        net = Prediction(MLP(NetSpec((5,)), size="XS"), "F", source=source)
        g = _seeded(3)
        loss = FlowMatching(EDMLogNormal(), EDMWeight())(Networks(net, transport=Transport(source)), Batch(x1), g)
        loss.mean().backward()
        flow = Flow(net, Transport(source), sampler=Sampler(EDMHeun(), EDMGrid(6)))
        gradients = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        results.append((loss.per_sample.detach(), gradients, g.get_state(), flow.sample(70, seed=1)))
    for limit in results[1:3]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], limit, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(results[0], results[3], strict=True))


def _starts(source: Source, sampled_from: Source | None = None) -> Tensor:
    """|x_init| / sigma_max as :meth:`Flow.sample` starts, in the clock of EDM."""
    flow = Flow(
        lambda x, t: 0 * x, Transport(source), sampler=Sampler(EDMHeun(), EDMGrid(2, 80.0, 79.0)), shape=(3072,)
    )
    out = []
    for first in range(0, 20_000, 2000):
        states = flow.sample(2000, seed=0, first=first, source=sampled_from, batch_size=2000, record=True).states
        out.append((states[0] * 81 / 80).double().norm(dim=1))  # x/a over sigma_max at t=1/81
    return torch.cat(out)


PRIORS = {128: (55.749, 3.587), 64: (56.081, 5.097), 2048: (55.441, 1.119), None: (55.421, 0.707)}


@pytest.mark.parametrize("df", PRIORS)
def test_fact_09_the_prior_of_the_sampler(df):
    mean, spread = PRIORS[df]
    radius = _starts(StudentT(df))
    assert float(radius.mean()) == pytest.approx(mean, rel=2e-3)
    assert float(radius.std()) == pytest.approx(spread, rel=0.03)


def test_fact_09_a_gaussian_prior_is_told_apart_by_its_spread():
    with pytest.warns(UserWarning, match="the velocity was trained from StudentT"):
        radius = _starts(StudentT(2048), Gaussian())
    assert float(radius.mean()) == pytest.approx(55.441, rel=2e-3)  # the mean alone cannot tell
    assert float(radius.std()) < 0.8 * PRIORS[2048][1]


def test_the_draws_of_a_flow_depend_on_seed_and_number_alone():
    flow = Flow(lambda x, t: -x, Transport(StudentT(4)), shape=(3,))
    sample = partial(flow.sample, seed=5)
    whole = sample(150)
    assert torch.equal(whole, sample(150, batch_size=37))
    assert torch.equal(whole[90:120], sample(30, first=90))
    g = generator(5, "other")
    assert not torch.equal(whole, flow.sample(150, generator=g))
