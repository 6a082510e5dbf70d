"""Facts 5, 7 and 10 of stochastic interpolants (arXiv 2303.08797): losses, antithetic pairs, Schroedinger bridges.

The formulas written here are the reference; the library is what is tested.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from advect import Batch, InputError, Transport
from advect.couplings import Coupling, Independent, MinibatchOT, SinkhornOT, sinkhorn
from advect.interpolants import Brownian, StochasticInterpolant, Zero
from advect.objectives import FlowMatching, InterpolantLoss, Networks
from advect.sources import Gaussian
from advect.times import FiniteSet, Uniform

F64 = torch.float64


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("antithetic", [True, False])
def test_fact_05_without_a_latent_the_loss_is_flow_matching(antithetic: bool):
    """Same generator, same t, x0, x1: gradients of 2 L_b and of the MSE agree, values up to mean |x1 - x0|^2."""
    x1 = 2 * torch.randn(500, 3, generator=_seeded(1), dtype=F64) + 1
    times = Uniform(0.01, 0.99)

    def net(w: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return w[0] * torch.tanh(x) + w[1] * t[:, None] + w[2]

    w = torch.tensor([0.3, -0.2, 0.1], dtype=F64, requires_grad=True)
    bare = Transport(interpolant=StochasticInterpolant(gamma=Zero()))
    ours = InterpolantLoss("b", times, antithetic, "paper")(
        Networks(lambda x, t: net(w, x, t), transport=bare), x1, _seeded()
    )
    plain = FlowMatching(times)(lambda x, t: net(w, x, t), x1, _seeded())
    assert torch.equal(ours.t, plain.t)
    assert torch.allclose(
        torch.autograd.grad(2 * ours.mean(), w, retain_graph=True)[0],
        torch.autograd.grad(plain.mean(), w, retain_graph=True)[0],
        atol=1e-12,
    )
    x0 = Gaussian().sample(x1.shape, generator=_seeded(), dtype=F64)
    constant = (x1 - x0).square().mean(1)
    assert torch.allclose(2 * ours.per_sample + constant, plain.per_sample, atol=1e-12)


def test_fact_05_a_latent_changes_the_loss():
    """The same comparison with gamma > 0 does not close, so it can fail."""
    x1 = torch.randn(500, 3, generator=_seeded(1), dtype=F64)
    nets = Networks(lambda x, t: torch.tanh(x), transport=Transport(interpolant=StochasticInterpolant()))
    noisy = InterpolantLoss("b", Uniform(0.01, 0.99), form="paper")(nets, x1, _seeded())
    plain = FlowMatching(Uniform(0.01, 0.99))(lambda x, t: torch.tanh(x), x1, _seeded())
    x0 = Gaussian().sample(x1.shape, generator=_seeded(), dtype=F64)
    assert (2 * noisy.per_sample + (x1 - x0).square().mean(1) - plain.per_sample).abs().mean() > 0.05


@pytest.mark.parametrize("field", ["s", "eta"])
def test_fact_05_without_a_latent_there_is_no_score_to_learn(field):
    nets = Networks(lambda x, t: x, transport=Transport(interpolant=StochasticInterpolant(gamma=Zero())))
    assert nets.transport.score_refusal is not None
    with pytest.raises(InputError, match=f"gamma = 0, so there is no '{field}' to learn"):
        InterpolantLoss(field)(nets, torch.zeros(4, 2))


def _gradients(t: float, antithetic: bool, pairs: int, seed: int, slope: float = 0.3, level: float = 0.1) -> Tensor:
    """d loss/dw and d loss/dc of each pair, shape (pairs, 2), for the net w tanh(x) + c and the loss L_b."""
    n = pairs if antithetic else 2 * pairs
    g = _seeded(seed)
    x0 = -1 + 0.6 * torch.randn(n, 1, generator=g, dtype=F64)
    x1 = 1.5 + 0.8 * torch.randn(n, 1, generator=g, dtype=F64)
    w = torch.full((n, 1), slope, dtype=F64, requires_grad=True)
    c = torch.full((n, 1), level, dtype=F64, requires_grad=True)
    copies = 2 if antithetic else 1
    nets = Networks(
        lambda x, t: torch.cat([w] * copies) * torch.tanh(x) + torch.cat([c] * copies),
        transport=Transport(interpolant=StochasticInterpolant()),
    )
    loss = InterpolantLoss("b", FiniteSet((t,)), antithetic, "paper")(nets, Batch(x1, x0=x0), g)
    both = torch.cat(torch.autograd.grad(loss.per_sample.sum(), (w, c)), 1)
    return both if antithetic else both.reshape(2, pairs, 2).mean(0)


@pytest.mark.parametrize(("t", "ratio", "tolerance"), [(1e-3, 34.0, 0.1), (1e-2, 3.5, 0.1), (0.3, 0.85, 0.1)])
def test_fact_07_antithetic_pairs_tame_the_gradient(t: float, ratio: float, tolerance: float):
    pairs = 200_000
    single, mirrored = _gradients(t, False, pairs, 0), _gradients(t, True, pairs, 1)
    assert float(single[:, 0].var() / mirrored[:, 0].var()) == pytest.approx(ratio, rel=tolerance)
    spread = ((single.var(0) + mirrored.var(0)) / pairs).sqrt()
    assert ((single.mean(0) - mirrored.mean(0)).abs() < 4 * spread).all()
    if t == 1e-3:
        assert float(single[:, 0].var()) == pytest.approx(66.6, rel=0.05)
        assert float(mirrored[:, 0].var()) == pytest.approx(1.95, rel=0.05)
        assert float(single[:, 1].var()) == pytest.approx(125, rel=0.05)
        assert float(mirrored[:, 1].var()) == pytest.approx(1.11, rel=0.05)


def test_fact_07_a_mirrored_input_needs_its_mirrored_target():
    """Written out here: with the target left as it is, the pair is worse than no pair (134)."""
    t, n = 1e-3, 200_000
    g = _seeded()
    x0 = -1 + 0.6 * torch.randn(n, generator=g, dtype=F64)
    x1 = 1.5 + 0.8 * torch.randn(n, generator=g, dtype=F64)
    z = torch.randn(n, generator=g, dtype=F64)
    gamma = math.sqrt(t * (1 - t))
    target = x1 - x0 + (1 - 2 * t) / (2 * gamma) * z
    wrong = []
    for sign in (1, -1):
        x = (1 - t) * x0 + t * x1 + sign * gamma * z
        wrong.append((0.3 * torch.tanh(x) + 0.1 - target) * torch.tanh(x))
    assert float(((wrong[0] + wrong[1]) / 2).var()) == pytest.approx(134, rel=0.05)
    assert float(_gradients(t, True, n, 1)[:, 0].var()) < 4


S0, S1, M1 = 1.0, 1.5, 0.7


def _bridge_covariance(e: float) -> float:
    return math.sqrt(S0**2 * S1**2 + e**2) - e


@pytest.mark.parametrize(("e", "anchor"), [(0.4, 1.15242), (0.1, 1.40333)])
def test_fact_10_the_entropic_plan_of_two_gaussians(e: float, anchor: float):
    """On a grid: covariance of Sinkhorn's plan for the kernel exp(-|x-y|^2/(4e))."""
    assert _bridge_covariance(e) == pytest.approx(anchor, abs=1e-5)
    x = torch.linspace(-7, 7, 280, dtype=F64) * S0
    y = torch.linspace(-7, 7, 280, dtype=F64) * S1
    log_a, log_b = torch.log_softmax(-(x**2) / (2 * S0**2), 0), torch.log_softmax(-(y**2) / (2 * S1**2), 0)
    cost = (x[:, None] - y) ** 2

    def covariance(reg: float) -> float:
        plan = sinkhorn(cost, reg, log_a, log_b, steps=20_000, tolerance=1e-10)
        assert float(plan.error) <= 1e-10
        return float((plan.log_plan.exp() * x[:, None] * y).sum())

    assert covariance(4 * e) == pytest.approx(_bridge_covariance(e), abs=1e-6)
    if e == 0.4:
        assert covariance(2 * e) == pytest.approx(1.3133, abs=1e-4)
        assert covariance(8 * e) == pytest.approx(0.9000, abs=1e-4)


def _pairs(coupling: Coupling, e: float, n: int = 1024, repeats: int = 8) -> tuple[float, dict[float, float]]:
    """Covariance of x0 and x1, and variance of x_t, over many batches; each batch's ends have the exact moments."""
    path = StochasticInterpolant(gamma=Brownian(2 * e))
    transport = Transport(coupling=coupling, interpolant=path)
    covariance, variance = [], {t: [] for t in (0.25, 0.5, 0.75)}
    for seed in range(repeats):
        g = _seeded(seed)
        x0, x1 = (torch.randn(n, 1, generator=g, dtype=F64) for _ in range(2))
        x0, x1 = ((x - x.mean()) / x.std(correction=0) for x in (x0, x1))
        batch = transport.pair(Batch(M1 + S1 * x1, x0=S0 * x0), g)
        covariance.append(float((batch.x0 * (batch.x1 - M1)).mean()))
        for t, values in variance.items():
            x = path.sample(batch.x0, batch.x1, torch.full((n,), t, dtype=F64), g).x
            values.append(float(x.var()))
    return sum(covariance) / repeats, {t: sum(v) / repeats for t, v in variance.items()}


@pytest.mark.parametrize("e", [0.1, 0.4])
def test_fact_10_pairs_drawn_from_the_plan_are_a_schroedinger_bridge(e: float):
    """reg = 2 sigma^2 = 4 e with gamma^2 = 2 e t (1-t); independent pairs and exact transport are not the bridge."""
    reference = _bridge_covariance(e)

    def marginal(t: float, covariance: float) -> float:
        return (1 - t) ** 2 * S0**2 + t**2 * S1**2 + 2 * t * (1 - t) * covariance + 2 * e * t * (1 - t)

    covariance, variance = _pairs(SinkhornOT(reg=4 * e), e)
    assert covariance == pytest.approx(reference, abs=0.02)
    for t, value in variance.items():
        assert value == pytest.approx(marginal(t, reference), rel=0.03)
    independent, _ = _pairs(Independent(), e)
    exact, _ = _pairs(MinibatchOT(), e)
    assert independent == pytest.approx(0.0, abs=0.06)
    assert exact == pytest.approx(S0 * S1, abs=0.02)
    for wrong in (independent, exact):
        assert abs(wrong - reference) > 0.08
