"""Facts of source distributions for flow matching: directions, the time shift, and sources that come near the data."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import advect
from advect import Transport
from advect.distillation import FlowSource
from advect.errors import InputError
from advect.interpolants import ChangedPath, Linear, SourceScaled
from advect.networks import MLP
from advect.objectives import FlowMatching
from advect.oracles import reference_mixture
from advect.solvers import RK4, Euler, EulerMaruyama, Heun
from advect.sources import (
    ChiSphere,
    ClusterVonMisesFisher,
    FittedMixture,
    Gaussian,
    MaskedFrequencies,
    NormAligned,
    PrunedSource,
    VonMisesFisher,
    chi_mean,
    mean_cosine,
)
from advect.times import FiniteSet, ShiftedGrid, ShiftedTimes, TimeGrid, Uniform


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("d", "kappa", "expected", "n", "tolerance"),
    [(3, 5.0, 1 / math.tanh(5) - 1 / 5, 20_000, 5e-3), (3072, 1500.0, 0.40731, 10_000, 1e-3),
     (3072, 3000.0, 0.61150, 10_000, 1e-3), (2, 3.0, 0.809985, 20_000, 5e-3), (5, 0.0, 0.0, 20_000, 0.01)],
)  # fmt: skip
def test_fact_09_mean_cosine_of_von_mises_fisher(d: int, kappa: float, expected: float, n: int, tolerance: float):
    assert mean_cosine(d, kappa) == pytest.approx(expected, abs=1e-5 if d != 3 else 1e-9)
    mu = torch.randn(d, generator=seeded(3))
    source = VonMisesFisher(kappa, tuple(mu.tolist()))
    total = 0.0
    for k in range(n // 2000):
        u = source.sample((2000, d), None, seeded(k))
        torch.testing.assert_close(u.norm(dim=1), torch.ones(2000), rtol=0, atol=1e-5)
        total += float((u @ (mu / mu.norm())).double().sum())
    assert total / n == pytest.approx(expected, abs=tolerance)


def test_fact_09_the_whole_law_on_the_sphere():
    """On S^2 the cosine has the density proportional to exp(k w), so that its distribution function is elementary."""
    kappa = 5.0
    w = VonMisesFisher(kappa, (0.0, 0.0, 2.0)).sample((50_000, 3), None, seeded())[:, 2].double().sort().values
    exact = (torch.exp(kappa * (w - 1)) - math.exp(-2 * kappa)) / (1 - math.exp(-2 * kappa))
    assert float((exact - (torch.arange(50_000) + 0.5) / 50_000).abs().max()) < 1.63 / math.sqrt(50_000)  # 1 %
    plane = VonMisesFisher(1000.0, (1.0, 3.0)).sample((1_000_000, 2), None, seeded(2))  # in reach of rounding
    torch.testing.assert_close(plane.norm(dim=1), torch.ones(1_000_000), rtol=0, atol=1e-5)
    around = VonMisesFisher(kappa, (0.0, 0.0, 2.0)).sample((50_000, 3), None, seeded(1))[:, :2]
    assert float(around.mean(0).abs().max()) < 0.01  # no direction across the mean is preferred


def test_fact_09_plain_bessel_functions_overflow():
    special = pytest.importorskip("scipy.special")
    assert math.isinf(special.iv(1536, 3000.0))
    assert mean_cosine(3072, 3000.0) == pytest.approx(special.ive(1536, 3000.0) / special.ive(1535, 3000.0), abs=1e-9)


def test_fact_09_the_oracle_stays_near_each_sample_and_serves_training_alone():
    x1 = torch.randn(4000, 3, 8, 8, generator=seeded(2))
    source = ChiSphere(VonMisesFisher(400.0))
    x0 = source.sample(x1.shape, None, seeded(), x1=x1)
    cosine = torch.cosine_similarity(x0.flatten(1), x1.flatten(1), dim=1)
    assert float(cosine.mean()) == pytest.approx(mean_cosine(192, 400.0), abs=2e-3)
    assert float(x0.flatten(1).norm(dim=1).mean()) == pytest.approx(chi_mean(192), rel=2e-3)
    assert source.needs_x1
    flow = advect.Flow(lambda x, t: -x, Transport(source), shape=(3, 8, 8))
    with pytest.raises(InputError, match="the source ChiSphere reads the data, so it serves training only"):
        flow.sample(4, seed=0)


def three_clusters(n: int = 3000) -> tuple[Tensor, Tensor]:
    label = torch.multinomial(torch.tensor([0.05, 0.3, 0.65]), n, True, generator=seeded(4))
    centres = torch.linalg.qr(torch.randn(20, 3, generator=seeded(5)))[0].T
    return 7 * centres[label] + 0.5 * torch.randn(n, 20, generator=seeded(6)), label


def test_fact_09_clusters_in_training_and_by_their_share_in_sampling():
    x1, label = three_clusters()
    source = ChiSphere(ClusterVonMisesFisher(3, kappa=300.0))
    transport = Transport(source)
    advect.train(lambda spec: MLP(spec, hidden=(8,)), x1, transport=transport, steps=2, batch_size=32, device="cpu")
    inner = source.source
    assert isinstance(inner, ClusterVonMisesFisher)
    counts = torch.bincount(label, minlength=3).double().sort().values / len(label)
    torch.testing.assert_close(inner.shares.sort().values, counts, rtol=0, atol=1e-9)
    x0 = source.sample(x1.shape, None, seeded(), x1=x1)
    assert torch.equal(inner.cluster_of(x0), inner.cluster_of(x1))  # the clusters are far apart
    free = inner.cluster_of(source.sample((20_000, 20), None, seeded()))
    shares = torch.bincount(free, minlength=3).double() / 20_000
    torch.testing.assert_close(shares, inner.shares, rtol=0, atol=0.015)
    assert not source.needs_x1
    assert transport.score_refusal is not None


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_fact_10_a_scaled_source_is_a_time_shift(t: float):
    c, law = 0.49, reference_mixture()
    x = torch.randn(200, 2, generator=seeded(), dtype=torch.float64)
    exact = law.on(Linear(), Gaussian(c)).velocity(x, t)
    unit = law.velocity(Linear())
    changed = ChangedPath(unit, Linear(), SourceScaled(Linear(), c))(x, t)
    torch.testing.assert_close(changed, exact, rtol=0, atol=1e-8)
    # by hand: the state y = x / (t + c (1-t)) at t~ = t / (t + c (1-t))
    total = t + c * (1 - t)
    y, s = x / total, t / total
    x1 = y + (1 - s) * unit(y, s)
    x0 = (y - s * x1) / (1 - s)
    torch.testing.assert_close(x1 - c * x0, exact, rtol=0, atol=1e-8)
    inverse = ChangedPath(unit, Linear(), SourceScaled(Linear(), 1 / c))(x, t)
    assert float((inverse - exact).abs().max()) > 1


def test_fact_10_norm_alignment_without_training_and_its_baselines():
    """A unit flow asked on the scaled path ends where a flow trained on the scaled source would."""
    c, law = 0.49, reference_mixture()
    z = torch.randn(100, 2, generator=seeded(), dtype=torch.float64)
    unit = law.velocity(Linear())
    asked = RK4()(ChangedPath(unit, Linear(), SourceScaled(Linear(), c)), c * z, 100)
    own = RK4()(law.on(Linear(), Gaussian(c)).velocity, c * z, 100)
    torch.testing.assert_close(asked, own, rtol=0, atol=1e-5)
    plain = RK4()(unit, z, 100)
    torch.testing.assert_close(asked, plain, rtol=0, atol=1e-5)  # and where the unit flow itself ends
    # the times that an even grid of the scaled path stands for, and those that training would show
    times = ShiftedGrid(8, c).times()
    path = SourceScaled(Linear(), c)
    lambdas = [float(path.half_log_snr(torch.tensor(u, dtype=torch.float64))) for u in TimeGrid(8).times()[1:-1]]
    assert [math.log(s / (1 - s)) for s in times[1:-1]] == pytest.approx(lambdas, abs=1e-9)
    shown = ShiftedTimes(Uniform(), c).sample(100_000, seeded(), dtype=torch.float64)
    u = Uniform().sample(100_000, seeded(), dtype=torch.float64)
    torch.testing.assert_close(shown, u / (u + c * (1 - u)))


def test_a_scaled_gaussian_keeps_its_score_and_a_pruned_one_has_none():
    law, c = reference_mixture(), 0.5
    aligned = NormAligned().fit(torch.randn(50, 2, generator=seeded()))
    aligned.scale = torch.tensor(c, dtype=torch.float64)
    aligned._known = None
    field = law.on(Linear(), aligned).velocity
    flow = advect.Flow(field, Transport(aligned), shape=(2,))
    assert flow.score_refusal is None
    x = flow.sample(20_000, seed=0, solver=EulerMaruyama(), steps=100, batch_size=20_000)
    real = law.draw(20_000, seeded(1))[0]
    torch.testing.assert_close(x.double().mean(0), real.mean(0), rtol=0, atol=0.05)
    torch.testing.assert_close(x.double().T.cov(), real.T.cov(), rtol=0, atol=0.08)
    pruned = PrunedSource.of(torch.eye(2)[:1], tau=0.5, source=aligned)
    assert flow.sample(8, seed=0, source=pruned, solver=Heun(), steps=4).shape == (8, 2)
    with pytest.raises(InputError, match="needs a score, but samples start from PrunedSource"):
        flow.sample(8, seed=0, source=pruned, solver=EulerMaruyama(), steps=4)
    assert Transport(pruned).score_refusal is not None
    assert pruned.log_prob(torch.zeros(3, 2)) is None
    # the likelihood of a flow that is merely sampled from a pruned source stays that of its training source
    y = law.draw(16, seeded(2))[0]
    before = flow.log_prob(y)
    flow.sampler = flow.sampler.but(source=pruned)
    torch.testing.assert_close(flow.log_prob(y), before)
    torch.testing.assert_close(before.double(), law.log_prob(Linear())(y, 1.0).double(), rtol=0, atol=1e-3)


def test_pruned_samples_do_not_depend_on_the_cut_into_batches():
    flow = advect.Flow(reference_mixture().velocity(Linear()), shape=(2,))
    source = PrunedSource.of(torch.eye(2), tau=0.3)
    whole = flow.sample(300, seed=5, source=source, solver=Euler(), steps=4)
    parts = flow.sample(300, seed=5, source=source, solver=Euler(), steps=4, batch_size=77)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    some = flow.sample(40, seed=5, first=130, source=source, solver=Euler(), steps=4)
    torch.testing.assert_close(some, whole[130:170], rtol=0, atol=1e-5)
    plain = flow.sample(300, seed=5, solver=Euler(), steps=4)
    kept = (plain == whole).all(1)
    assert 0.2 < float(kept.double().mean()) < 0.9  # draws that pass are those of the plain source


def test_a_mixture_fitted_to_data_has_their_density():
    g = seeded(7)
    x = torch.cat([torch.randn(3000, 2, generator=g) @ torch.tensor([[1.0, 0.8], [0.0, 0.4]]) + 3,
                   torch.randn(1000, 2, generator=g) * 0.5 - 2])  # fmt: skip
    source = FittedMixture(2).fit(x, None, seeded())
    order = source.weights.argsort()
    torch.testing.assert_close(
        source.weights[order], torch.tensor([0.25, 0.75], dtype=torch.float64), rtol=0, atol=0.01
    )
    torch.testing.assert_close(source.means[order[1]], torch.tensor([3.0, 3.0]), rtol=0, atol=0.06)
    drawn = source.sample((50_000, 2), None, seeded())
    torch.testing.assert_close(drawn.T.cov(), x.T.cov(), rtol=0.03, atol=0.05)
    one = FittedMixture(1, floor=1e-9).fit(x.double())
    torch.testing.assert_close(one.means[0], x.double().mean(0), rtol=0, atol=1e-9)
    covariance = one.factors[0] @ one.factors[0].T
    torch.testing.assert_close(covariance, x.double().T.cov(correction=0), rtol=1e-6, atol=1e-6)


def test_masked_frequencies_lack_what_the_data_lack():
    g = seeded(8)
    smooth = torch.randn(500, 3, 2, 2, generator=g)
    x1 = torch.nn.functional.interpolate(smooth, size=(16, 16), mode="bilinear").clamp(-1, 1)
    source = MaskedFrequencies(2.0).fit(x1)
    used = source.used.bool()
    assert used[0, 0, 0]
    assert not used[:, 4:, 4:].any()  # no fine detail in smooth pictures
    assert (MaskedFrequencies(40.0).fit(x1).used <= source.used).all()  # a larger threshold leaves out more
    x0 = source.sample((4000, 3, 16, 16), None, seeded())
    torch.testing.assert_close(x0.var((0, 2, 3)), torch.ones(3), rtol=0, atol=0.03)
    assert float((x0[..., ::2, :] - x0[..., 1::2, :]).var()) < 1.3  # neighbours hang together; 2 for white noise
    rough = MaskedFrequencies(2.0).fit(torch.rand(500, 3, 16, 16, generator=g) * 2 - 1)
    assert rough.used.all()
    torch.testing.assert_close(
        rough.sample((5, 3, 16, 16), None, seeded()), Gaussian().sample((5, 3, 16, 16), None, seeded()),
        rtol=0, atol=1e-4,
    )  # fmt: skip


def test_a_flow_as_the_source_of_another(tmp_path):
    x1 = torch.randn(400, 2, generator=seeded()) + 3
    first = advect.train(lambda spec: MLP(spec, hidden=(16,)), x1, steps=30, device="cpu")
    assert isinstance(first.network, MLP)
    source = FlowSource(first.network, first.transport.source, Heun(), TimeGrid(5))
    x0 = source.sample((64, 2), None, seeded())
    torch.testing.assert_close(x0, first.sample(64, generator=seeded(), solver=Heun(), steps=5))
    weights = [p.clone() for p in first.network.parameters()]
    second = advect.train(lambda spec: MLP(spec, hidden=(16,)), x1, transport=Transport(source), steps=5, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(weights, source.network.parameters(), strict=True))
    assert second.score_refusal is not None
    second.save_pretrained(tmp_path / "flow")
    again = advect.Flow.from_pretrained(tmp_path / "flow")
    torch.testing.assert_close(again.sample(16, seed=1), second.sample(16, seed=1))


def test_the_scale_is_saved_with_the_flow(tmp_path):
    x1 = 5 + torch.randn(400, 2, generator=seeded())
    transport = Transport(NormAligned())
    flow = advect.train(
        lambda spec: MLP(spec, hidden=(16,)), x1, transport=transport, steps=5, device="cpu",
        objective=FlowMatching(FiniteSet((0.5,))),
    )  # fmt: skip
    expected = float(x1.norm(dim=1).mean()) / chi_mean(2)
    flow.save_pretrained(tmp_path / "flow")
    again = advect.Flow.from_pretrained(tmp_path / "flow")
    assert again.transport.source.gaussian == pytest.approx((0.0, expected))
    assert again.score_refusal is None
    torch.testing.assert_close(again.sample(16, seed=1), flow.sample(16, seed=1))
    again.sampler = again.sampler.but(source=PrunedSource.of(torch.eye(2)[:1], tau=0.1, source=again.transport.source))
    again.save_pretrained(tmp_path / "pruned")  # as its default way to be sampled
    kept = advect.Flow.from_pretrained(tmp_path / "pruned")
    assert kept.sample(16, seed=1, record=True).states[0].norm(dim=1).mean() > 2  # the scale is 3.7 or so
    torch.testing.assert_close(kept.sample(16, seed=1), again.sample(16, seed=1))
    with pytest.raises(InputError, match="NormAligned has no scale yet"):
        NormAligned().sample((3, 2))
