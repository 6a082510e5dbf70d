"""Facts 1-3, 5, 6 and 8 of weighted conditional flow matching (arXiv 2507.22270): the weights and what they regress.

The closed forms written here are the reference; the library is what is tested.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import advect
from advect import Batch, InputError, Transport
from advect.couplings import GibbsWeights
from advect.couplings.tilt import effective_share
from advect.data import EightGaussians
from advect.objectives import FlowMatching, Networks
from advect.times import FiniteSet

F64 = torch.float64
PAIRS = 1_000_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fitted(x0: Tensor, x1: Tensor, **arguments: object) -> GibbsWeights:
    coupling = GibbsWeights(**arguments)
    coupling.fit(x0, x1, generator=seeded())
    return coupling


def gaussians(s: float, n: int = PAIRS, seed: int = 0) -> tuple[Tensor, Tensor]:
    """n draws of N(0, 1) and of N(0, s^2), (n, 1)."""
    g = seeded(seed)
    return torch.randn(n, 1, generator=g, dtype=F64), s * torch.randn(n, 1, generator=g, dtype=F64)


def moments(weight: Tensor, x0: Tensor, x1: Tensor) -> tuple[float, float, float]:
    """Weighted var x0, var x1 and covariance (the means are 0)."""
    w = weight / weight.sum()
    return tuple(float((w * (a * b)[:, 0]).sum()) for a, b in ((x0, x0), (x1, x1), (x0, x1)))


def exact_moments(s: float, eps: float) -> tuple[float, float, float]:
    """The inverse of [[1 + 2/eps, -2/eps], [-2/eps, 1/s^2 + 2/eps]]."""
    c = torch.tensor([[1 + 2 / eps, -2 / eps], [-2 / eps, 1 / s**2 + 2 / eps]], dtype=F64).inverse()
    return float(c[0, 0]), float(c[1, 1]), float(c[0, 1])


class Slope(nn.Module):
    """v(x, t) = k x."""

    def __init__(self, k: float = 0.4) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(k, dtype=F64))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.k * x


@pytest.mark.parametrize("eps", [math.inf, 1e12])
def test_fact_01_a_huge_scale_is_plain_flow_matching(eps: float):
    x1 = EightGaussians(n=4096).points("train").double()
    coupling = fitted(torch.randn(x1.shape, generator=seeded(1), dtype=F64), x1, eps=eps)
    assert abs(float(coupling.log_mean)) < 1e-6
    losses, gradients = [], []
    for transport in (Transport(), Transport(coupling=coupling)):
        net = Slope()
        loss = FlowMatching()(Networks(net, transport=transport), x1, seeded(2)).mean()
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(float(net.k.grad))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert gradients[1] == pytest.approx(gradients[0], rel=1e-6)


@pytest.mark.parametrize(
    ("s", "eps", "anchor", "share"),
    [
        (1.5, 0.5, (0.7143, 0.8036, 0.6429), 0.37),
        (1.5, 2.0, (0.7647, 1.0588, 0.5294), 0.65),
        (1.5, 8.0, (0.8621, 1.5517, 0.3103), 0.89),
        (0.7, 2.0, (0.5984, 0.3936, 0.1968), None),
    ],
)
def test_fact_02_squared_cost_gives_the_closed_form_between_gaussians(s, eps, anchor, share):
    exact = exact_moments(s, eps)
    assert exact == pytest.approx(anchor, abs=5e-5)
    x0, x1 = gaussians(s)
    coupling = fitted(x0, x1, eps=eps, cost="squared")
    log_weight = coupling(x0, x1).log_weight
    assert moments(log_weight.exp(), x0, x1) == pytest.approx(exact, rel=0.01)
    assert float(log_weight.exp().mean()) == pytest.approx(1, abs=1e-6)
    if share is not None:
        assert float(effective_share(log_weight)) == pytest.approx(share, abs=0.01)


def test_fact_02_the_wrong_weights_are_told_apart():
    """At eps = 2: half the exponent, the plain norm, and weights that belong to other pairs."""
    x0, x1 = gaussians(1.5)
    right = exact_moments(1.5, 2.0)[0]

    def var_x(**arguments: object) -> float:
        return moments(fitted(x0, x1, **arguments)(x0, x1).log_weight.exp(), x0, x1)[0]

    assert var_x(eps=2.0, cost="squared") == pytest.approx(right, rel=0.01)
    assert var_x(eps=4.0, cost="squared") == pytest.approx(0.809, abs=0.005)  # exp(-|x-y|^2 / (2 eps))
    assert var_x(eps=2.0) == pytest.approx(0.848, abs=0.005)  # plain norm
    weight = fitted(x0, x1, eps=2.0, cost="squared")(x0, x1).log_weight.exp()
    shuffled = weight[torch.randperm(PAIRS, generator=seeded(3))]
    assert abs(moments(shuffled, x0, x1)[2]) < 0.01


@pytest.mark.parametrize(("eps", "anchor"), [(0.5, 0.1251), (2.0, 0.3704), (8.0, 0.7265), (None, 1.0692)])
def test_fact_03_the_weighted_loss_regresses_the_velocity_of_the_weighted_coupling(eps, anchor):
    s, t = 1.5, 0.7
    var0, var1, cov = (1.0, s**2, 0.0) if eps is None else exact_moments(s, eps)
    slope = ((1 - t) * (cov - var0) + t * (var1 - cov)) / ((1 - t) ** 2 * var0 + t**2 * var1 + 2 * t * (1 - t) * cov)
    assert slope == pytest.approx(anchor, abs=5e-5)
    x0, x1 = gaussians(s)
    transport = Transport() if eps is None else Transport(coupling=fitted(x0, x1, eps=eps, cost="squared"))
    batch = transport.pair(Batch(x1, x0=x0))
    gradients = []
    for k in (0.0, 1.0):  # the loss is a parabola in k: its gradient is a line, with the minimiser where it crosses 0
        net = Slope(k)
        FlowMatching(FiniteSet((t,)))(Networks(net, transport=transport), batch, seeded(1)).mean().backward()
        gradients.append(float(net.k.grad))
    assert -gradients[0] / (gradients[1] - gradients[0]) == pytest.approx(anchor, abs=0.01)


def test_fact_05_a_weight_belongs_to_its_pair_alone():
    x1 = EightGaussians(n=4096).points("train")
    x0 = torch.randn(x1.shape, generator=seeded(1))
    fixed = fitted(x0, x1, eps=1.4)
    in_one, in_other = fixed(x0[:64], x1[:64]).log_weight, fixed(x0[32:128], x1[32:128]).log_weight
    assert torch.equal(in_one[32:], in_other[:32])
    objective, kept = FlowMatching(), []
    for k in (0.1, 5.0):  # other output of the network, other times
        batch = Transport(coupling=fixed).pair(Batch(x1[:64], x0=x0[:64]))
        objective(Networks(Slope(k), transport=Transport(coupling=fixed)), batch, seeded(int(k)))
        kept.append(batch.weight)
    assert torch.equal(kept[0], kept[1])
    assert torch.equal(kept[0], in_one.exp())

    batchwise = GibbsWeights(eps=1.4, normalise="batch")  # another method, by another name
    one, other = batchwise(x0[:64], x1[:64]).log_weight, batchwise(x0[32:128], x1[32:128]).log_weight
    assert float(one.exp().mean()) == pytest.approx(1, abs=1e-5)
    assert float((one[32:] - other[:32]).abs().min()) > 1e-3
    assert advect.parts.config_of(batchwise) != advect.parts.config_of(GibbsWeights(eps=1.4))
    means = torch.stack([fixed(a, b).log_weight.exp().mean() for a, b in zip(x0.split(8), x1.split(8), strict=True)])
    assert float(means.std()) > 0.1  # a fixed constant leaves batches their own mean


@pytest.mark.parametrize(("kappa", "share", "squared"), [(0.5, 0.152, 0.004), (1.0, 0.600, 0.022), (2.0, 0.878, 0.116)])
def test_fact_06_effective_sample_size_on_the_plane(kappa: float, share: float, squared: float):
    n = 200_000
    x1 = EightGaussians().draw(n, seeded(1))
    x0 = torch.randn(n, 2, generator=seeded(2))
    coupling = fitted(x0, x1, kappa=kappa)
    log_weight = coupling(x0, x1).log_weight
    assert float(effective_share(log_weight)) == pytest.approx(share, abs=0.01)
    wrong = fitted(x0, x1, kappa=kappa, cost="squared", min_ess=0.0)
    assert float(effective_share(wrong(x0, x1).log_weight)) == pytest.approx(squared, abs=0.005)
    # of the same pairs, ten times larger, with ten times the scale
    tenfold = fitted(10 * x0, 10 * x1, eps=10 * kappa * math.sqrt(2))
    assert torch.allclose(tenfold(10 * x0, 10 * x1).log_weight, log_weight, atol=1e-4)
    square = fitted(10 * x0, 10 * x1, eps=10 * kappa * math.sqrt(2), cost="squared", min_ess=0.0)
    assert float((square(10 * x0, 10 * x1).log_weight - wrong(x0, x1).log_weight).abs().median()) > 1
    assert float(effective_share(fitted(x0, x1, eps=math.inf)(x0, x1).log_weight)) == pytest.approx(1, abs=1e-12)


def test_fact_06_a_training_logs_the_effective_sample_size(tmp_path):
    data = EightGaussians(n=20_000)
    transport = Transport(coupling=GibbsWeights(kappa=1.0))
    settings = {"steps": 40, "batch_size": 512, "log_every": 40, "device": "cpu", "tensorboard": False}
    advect.train(
        lambda spec: advect.networks.MLP(spec, hidden=(8,)),
        data,
        transport=transport,
        folder=tmp_path / "run",
        **settings,
    )
    row = advect.training.logs.read_log(tmp_path / "run" / "log.jsonl")[-1]
    assert row["weight_ess"] == pytest.approx(0.600, abs=0.02)
    assert row["weight_mean"] == pytest.approx(1, abs=0.03)


def test_fact_08_the_norm_is_over_all_dimensions_but_the_first():
    x0, x1 = (torch.randn(32, 3, 8, 8, generator=seeded(seed)) for seed in (0, 1))
    coupling = fitted(x0, x1, eps=3.0)
    shaped, flat = coupling(x0, x1).log_weight, coupling(x0.flatten(1), x1.flatten(1)).log_weight
    assert shaped.shape == (32,)
    assert torch.allclose(shaped, flat)
    reference = -(x0 - x1).flatten(1).double().norm(dim=1) / 3.0
    assert torch.allclose((shaped - shaped[0]).double(), reference - reference[0], atol=1e-5)
    per_channel = -(x0 - x1).flatten(2).norm(dim=2).sum(1) / 3.0
    assert not torch.allclose(shaped - shaped[0], per_channel - per_channel[0], atol=0.1)
    with pytest.raises(InputError, match=r"x0 has shape \(32, 1, 8, 8\) and x1 \(32, 3, 8, 8\)"):
        coupling(x0[:, :1], x1)
