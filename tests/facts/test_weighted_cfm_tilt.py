"""Facts 4, 7, 9 and 10 of weighted conditional flow matching (arXiv 2507.22270): tilted ends, numerics, potentials.

The closed forms written here are the reference; the library is what is tested.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from advect import Transport
from advect.couplings import GibbsWeights
from advect.couplings.tilt import effective_share, tilt_variance
from advect.diagnostics import tilt_of
from advect.objectives import FlowMatching, Networks
from advect.solvers import RK4

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def circle(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], -1)


def ks_distance(sample: Tensor, density) -> float:
    """Largest gap between the sample's distribution function on [-pi, pi] and that of a density (up to a constant)."""
    nodes = torch.linspace(-math.pi, math.pi, 20_001, dtype=F64)
    mass = torch.cumulative_trapezoid(density(nodes), nodes)
    exact = torch.cat([mass.new_zeros(1), mass / mass[-1]])
    seen = torch.searchsorted(sample.sort().values, nodes, right=True) / len(sample)
    return float((seen - exact).abs().max())


@pytest.mark.parametrize("eps", [0.3, 1.0, 3.0])
def test_fact_04_on_the_circle_nothing_is_tilted_and_angles_follow_the_gibbs_law(eps: float):
    even = circle(torch.arange(2000, dtype=F64) * (2 * math.pi / 2000))
    coupling = GibbsWeights(eps=eps)
    source, data = tilt_variance(coupling.log_weights(even, even), unbiased=False)
    assert max(float(source), float(data)) < 1e-10
    uneven = even * torch.tensor([1.0, 0.5], dtype=F64)  # an ellipse has no such symmetry
    assert float(tilt_variance(coupling.log_weights(uneven, even), unbiased=False)[0]) > 1e-4

    n, g = 400_000, seeded(5)
    angles = (2 * torch.rand(2, n, generator=g, dtype=F64) - 1) * math.pi
    x0, x1 = circle(angles[0]), circle(angles[1])
    coupling.fit(x0[:20_000], x1[:20_000], generator=g)
    chance = (coupling(x0, x1).log_weight + coupling.log_mean).exp()  # exp(-c / eps) itself, at most 1
    kept = torch.rand(n, generator=g, dtype=F64) < chance
    apart = torch.remainder(angles[1] - angles[0] + math.pi, 2 * math.pi)[kept] - math.pi
    bound = 1.63 / math.sqrt(len(apart))
    assert ks_distance(apart, lambda d: (-2 * (d / 2).sin().abs() / eps).exp()) < bound
    # the squared cost is another law: Kolmogorov's p = 2 exp(-2 n D^2) < 1e-30
    wrong = ks_distance(apart, lambda d: (-4 * (d / 2).sin().square() / eps).exp())
    assert 2 * math.exp(-2 * len(apart) * wrong**2) < 1e-30
    for end in angles:  # marginals stay uniform
        assert ks_distance(end[kept], torch.ones_like) < bound


def pictures(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x0 ~ N(0, I_3072); x1 of random direction and norm 27.2 +- 6, float32."""
    g = seeded(seed)
    x0, x1 = torch.randn(n, 3072, generator=g), torch.randn(n, 3072, generator=g)
    return x0, x1 / x1.norm(dim=1, keepdim=True) * (27.2 + 6 * torch.randn(n, 1, generator=g))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(0.4))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.k * x


@pytest.mark.parametrize(("eps", "raw", "share"), [(5.0, 4.7e-6, 0.79), (1.0, 1.6e-26, 0.04), (0.5, 0.0, None)])
def test_fact_07_log_weights_survive_where_raw_ones_vanish(eps: float, raw: float, share: float | None):
    x0, x1 = pictures(4000)
    coupling = GibbsWeights(eps=eps, min_ess=0.0)
    coupling.fit(x0, x1, generator=seeded())
    plain = torch.exp(-(x0 - x1).norm(dim=1) / eps)  # what a straightforward implementation multiplies with
    if raw:
        assert raw / 5 < float(plain.mean()) < 5 * raw  # eps = 1 is carried by rare pairs, and is of one seed
    else:
        assert float(plain.median()) == 0
    norms = {}
    for name, transport in (("ours", Transport(coupling=coupling)), ("unweighted", Transport())):
        net = Scaled()
        loss = FlowMatching()(Networks(net, transport=transport), x1[:256], seeded(2))
        loss.mean().backward()
        assert math.isfinite(float(loss.mean().detach()))
        assert float(loss.mean().detach()) > 0
        norms[name] = abs(float(net.k.grad))
    if share is not None:
        assert 1e-2 < norms["ours"] / norms["unweighted"] < 1e2
        # at eps = 1 one pair in 4000 can weigh as much as all others together: .04 to .09, by the seed
        assert float(effective_share(coupling(x0, x1).log_weight)) == pytest.approx(
            share, abs=0.02 if eps > 1 else 0.06
        )
    if eps == 1.0:
        net = Scaled()
        loss = FlowMatching()(net, x1[:256], seeded(2)).per_sample
        (plain[:256] * loss).mean().backward()
        assert abs(float(net.k.grad)) < 1e-20 * norms["unweighted"]
        assert float(plain.square().mean()) == 0  # its square underflows


def test_fact_07_in_high_dimension_the_weight_is_mostly_a_tilt_by_the_norm():
    x0, x1 = pictures(2000)
    found = tilt_of(GibbsWeights(eps=5.0), x0, x1)
    assert found.data_std == pytest.approx(0.53, abs=0.03)
    assert found.source_std == pytest.approx(0.63 / 5, abs=0.01)
    assert found.interaction_std == pytest.approx(0.09, abs=0.005)
    assert found.interaction_share < 0.05
    norms = x1.norm(dim=1)
    weight = GibbsWeights(eps=5.0).log_weights(x0, x1).exp().mean(0)
    assert float((weight * norms).sum() / weight.sum()) < float(norms.mean()) - 2  # small pictures are favoured


def quantiles(n: int, s: float) -> Tensor:
    """n points that stand for N(0, s^2): midpoints of equal shares, scaled to its variance; (n, 1)."""
    u = (torch.arange(n, dtype=F64) + 0.5) / n
    x = math.sqrt(2) * torch.erfinv(2 * u - 1)
    return (s * x / x.square().mean().sqrt())[:, None]


def covariance(coupling: GibbsWeights, x0: Tensor, x1: Tensor) -> float:
    plan = coupling.log_weights(x0, x1).exp()
    return float((plan * x0 * x1.T).sum() / plan.sum())


@pytest.mark.parametrize(
    ("eps", "anchor", "without"), [(0.5, 1.3802, 0.6429), (2.0, 1.0811, 0.5294), (8.0, 0.5, 0.3103)]
)
def test_fact_09_potentials_restore_the_entropic_plan(eps: float, anchor: float, without: float):
    s = 1.5
    exact = math.sqrt(s**2 + (eps / 4) ** 2) - eps / 4
    assert exact == pytest.approx(anchor, abs=5e-5)
    x0, x1 = quantiles(600, 1.0), quantiles(600, s)
    coupling = GibbsWeights(eps=eps, cost="squared", potentials=600)
    coupling.fit(x0, x1, generator=seeded())
    assert covariance(coupling, x0, x1) == pytest.approx(exact, abs=1e-4)
    weight = coupling.log_weights(x0, x1).exp()
    for along in (0, 1):
        assert float((weight.mean(along) - 1).abs().max()) < 1e-3
    fresh = torch.linspace(-2.5, 2.5, 41, dtype=F64)[:, None]  # points that were not in the reference sample
    assert float((coupling.log_weights(fresh, x1).exp().mean(1) - 1).abs().max()) < 1e-3
    pairs = coupling(x0[:100], x1[:100]).log_weight + coupling.log_mean
    assert torch.allclose(pairs, coupling.log_weights(x0[:100], x1[:100]).diagonal(), atol=1e-6)

    bare = GibbsWeights(eps=eps, cost="squared")
    assert covariance(bare, x0, x1) == pytest.approx(without, abs=3e-3)
    assert float(tilt_variance(bare.log_weights(x0, x1), unbiased=False)[0]) > 5e-3


@pytest.mark.parametrize(("eps", "anchor"), [(0.5, 1.125), (2.0, 1.385), (8.0, 1.8), (None, 2.25)])
def test_fact_10_the_bias_is_real(eps: float | None, anchor: float):
    """Samples of the exact weighted field have variance var_q(x1) / var_q(x0), and not that of the data."""
    s = 1.5
    precision = torch.tensor([[1.0, 0.0], [0.0, s**-2]], dtype=F64)
    if eps is not None:
        precision += 2 / eps * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64)
    exact = precision.inverse()
    n = 1_000_000
    g = seeded(4)
    x0, x1 = torch.randn(n, 1, generator=g, dtype=F64), s * torch.randn(n, 1, generator=g, dtype=F64)
    weight = torch.ones(n, dtype=F64)
    if eps is not None:
        coupling = GibbsWeights(eps=eps, cost="squared")
        coupling.fit(x0, x1, generator=g)
        weight = coupling(x0, x1).log_weight.exp()
    pair = torch.cat([x0, x1], 1)
    q = (weight[:, None] * pair).T @ pair / weight.sum()
    assert torch.allclose(q, exact, rtol=0.01, atol=0.005)

    def field(x: Tensor, t: Tensor) -> Tensor:
        ends, speed = torch.stack([1 - t, t]), torch.tensor([-1.0, 1.0], dtype=F64)
        return (ends @ q @ speed) / (ends @ q @ ends) * x

    z1 = RK4()(field, x0[:100_000], 50)
    z1_var = float(z1.square().mean() / x0[:100_000].square().mean())
    assert z1_var == pytest.approx(anchor, rel=0.01)
    assert z1_var == pytest.approx(float(q[1, 1] / q[0, 0]), rel=1e-4)
    if eps is not None:
        assert z1_var < 0.85 * s**2
