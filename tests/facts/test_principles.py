"""Facts of "The Principles of Diffusion Models" (arXiv 2510.21890): paths, conversions and flow maps.

The formulas written here are the reference; the library is what is tested.
"""

from __future__ import annotations

import math

import pytest
import torch

from advect.interpolants import (
    VE,
    VPSDE,
    AffineInterpolant,
    ChangedPath,
    Cosine,
    EDMPreconditioning,
    Linear,
    Scaled,
    Shifted,
)
from advect.oracles import Gaussian, reference_mixture
from advect.sources import Gaussian as GaussianSource

F64 = torch.float64


def _vp(t):
    T = (1 - t) ** 2 * (20 - 0.1) / 2 + (1 - t) * 0.1
    return torch.exp(-T / 2), torch.sqrt(1 - torch.exp(-T))


# a(t) and g(t) written out; derivatives are taken by automatic differentiation
SCHEDULES = {
    "linear": (Linear(), lambda t: (t, 1 - t)),
    "cosine": (Cosine(), lambda t: (torch.sin(math.pi * t / 2), torch.cos(math.pi * t / 2))),
    "vp": (VPSDE(), _vp),
    "ve": (VE(), lambda t: (torch.ones_like(t), 80.0 ** (1 - t) * 0.002**t)),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def schedule(name: str, t: float) -> tuple[torch.Tensor, ...]:
    """a, g, a', g' at t."""
    time, one = torch.tensor(t, dtype=F64), torch.ones((), dtype=F64)
    (a, g), (da, dg) = torch.func.jvp(SCHEDULES[name][1], (time,), (one,))
    return a, g, da, dg


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@every_schedule
def test_fact_01_converters_return_the_true_pair(name: str):
    path: AffineInterpolant = SCHEDULES[name][0]
    t = 0.37
    a, g, da, dg = schedule(name, t)
    x0, x1 = normal(16, 3, seed=0), normal(16, 3, seed=1)
    x, v = a * x1 + g * x0, da * x1 + dg * x0
    assert (path.convert(v, x, t, "v", "x1") - x1).abs().max() < 1e-10
    assert (path.convert(v, x, t, "v", "x0") - x0).abs().max() < 1e-10
    point = path.sample(x0, x1, torch.tensor(t, dtype=F64))
    assert (point.x - x).abs().max() < 1e-10
    assert (point.v - v).abs().max() < 1e-10
    # a consistently wrong sign of Delta closes every round trip, and fails here
    delta = -(da * g - a * dg)
    wrong_x1 = (g * v - dg * x) / delta
    assert ((dg / g) * x + (delta / g) * wrong_x1 - v).abs().max() < 1e-10
    assert (wrong_x1 - x1).abs().max() > 1


@every_schedule
def test_fact_01_round_trips_close(name: str):
    path, t = SCHEDULES[name][0], 0.37
    x, v = normal(16, 3, seed=2), normal(16, 3, seed=3)
    for kind in ("x1", "x0", "score"):
        there = path.convert(v, x, t, "v", kind)  # pyright: ignore[reportArgumentType]
        assert (path.convert(there, x, t, kind, "v") - v).abs().max() < 1e-10  # pyright: ignore[reportArgumentType]


@every_schedule
def test_fact_01_score_is_the_gradient_of_the_density(name: str):
    path, t = SCHEDULES[name][0], 0.37
    a, g, _, _ = schedule(name, t)
    weights, stds = torch.tensor([0.5, 0.3, 0.2], dtype=F64), torch.tensor([0.5, 0.6, 0.4], dtype=F64)
    means = torch.tensor([[1.5, 0], [-1, 1.2], [-0.5, -1.6]], dtype=F64)
    x = (normal(9, 2) * 2).requires_grad_()
    variance = a**2 * stds**2 + g**2
    log_p = (weights.log() - variance.log() - ((x[:, None] - a * means) ** 2).sum(-1) / (2 * variance)).logsumexp(1)
    score = torch.autograd.grad(log_p.sum(), x)[0]
    v = reference_mixture().velocity(path)(x.detach(), t)
    assert (path.convert(v, x.detach(), t, "v", "score") - score).abs().max() < 1e-6


def test_fact_08_gaussian_flow_map_and_the_identities_of_flow_maps():
    s, mu, x, r, t = 0.5, 1.5, 0.9, 0.2, 0.7
    flow = Gaussian((mu,), s**2).flow_map()

    def at(value: float) -> torch.Tensor:
        return torch.tensor([[value]], dtype=F64)

    def u(x: torch.Tensor, r: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return flow(x, r, t)

    time = (torch.tensor(r, dtype=F64), torch.tensor(t, dtype=F64))
    one, zero = torch.ones((), dtype=F64), torch.zeros((), dtype=F64)
    value, v = u(at(x), *time), flow.velocity(at(x), time[0])
    assert flow.jump(at(x), r, t).item() == pytest.approx(1.393063, abs=1e-6)
    assert value.item() == pytest.approx(0.986126, abs=1e-6)
    assert v.item() == pytest.approx(0.807692, abs=1e-6)

    def residual(tangent: tuple[torch.Tensor, ...], sign: float = 1.0) -> float:
        derivative = torch.func.jvp(u, (at(x), *time), tangent)[1]
        return (v + sign * (t - r) * derivative - value).item()

    along = torch.func.jvp(u, (at(x), *time), (v, one, zero))[1]
    assert along.item() == pytest.approx(0.356868, abs=1e-6)
    assert abs(residual((v, one, zero))) < 1e-8
    assert residual((v, one, zero), sign=-1.0) == pytest.approx(-0.3569, abs=1e-3)
    assert residual((v, zero, one)) == pytest.approx(-0.212, abs=1e-3)
    assert residual((v, one, one)) == pytest.approx(0.312, abs=1e-3)
    assert residual((torch.zeros_like(v), one, zero)) == pytest.approx(0.346, abs=1e-3)

    middle = torch.tensor(0.4, dtype=F64)
    first = u(at(x), time[0], middle)
    moved = at(x) + (middle - r) * first
    split = (middle - r) * first + (t - middle) * u(moved, middle, time[1])
    assert ((t - r) * value - split).abs().item() < 1e-12
    unmoved = (middle - r) * first + (t - middle) * u(at(x), middle, time[1])
    assert ((t - r) * value - unmoved).item() == pytest.approx(-0.046, abs=1e-3)

    end, speed = torch.func.jvp(lambda e: flow.jump(at(x), r, e), (time[1],), (one,))
    assert (speed - flow.velocity(end, t)).abs().item() < 1e-8
    eulerian = torch.func.jvp(lambda y, b: flow.jump(y, b, t), (at(x), time[0]), (v, one))[1]
    assert eulerian.abs().item() < 1e-8


@every_schedule
def test_fact_10_losses_of_all_predictions_are_one_loss(name: str):
    path, t = SCHEDULES[name][0], 0.37
    a, g, da, dg = schedule(name, t)
    delta = da * g - a * dg
    x0, x1, wrong = normal(16, 3, seed=0), normal(16, 3, seed=1), normal(16, 3, seed=2)
    x, v = a * x1 + g * x0, da * x1 + dg * x0
    errors = {}
    for kind in ("v", "x1", "x0", "score"):
        true, said = (path.convert(u, x, t, "v", kind) for u in (v, v + wrong))  # pyright: ignore[reportArgumentType]
        errors[kind] = (said - true).square()
    for kind, factor in (("x1", delta / g), ("x0", delta / a), ("score", g * delta / a)):
        torch.testing.assert_close(factor**2 * errors[kind], errors["v"], rtol=1e-9, atol=0)


def test_fact_12_time_shift_inverts_and_lowers_half_log_snr_by_its_logarithm():
    t = torch.linspace(0.01, 0.99, 99, dtype=F64)
    for s in (3.0, 0.4):
        there = Shifted(Linear(), s)
        back = Shifted(there, 1 / s)
        for name in ("alpha", "sigma", "d_alpha", "d_sigma"):
            torch.testing.assert_close(getattr(back, name)(t), getattr(Linear(), name)(t), rtol=1e-12, atol=1e-12)
        logit = torch.log(t / (1 - t))
        assert (there.half_log_snr(t) - (logit - math.log(s))).abs().max() < 1e-12
        # shifting the wrong way is off by 2 log s
        assert (there.half_log_snr(t) - (logit + math.log(s))).abs().min() > 2 * abs(math.log(s)) - 1e-9
        g = 1 - t
        torch.testing.assert_close(there.sigma(t), s * g / (1 + (s - 1) * g), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["cosine", "vp", "ve"])
def test_fact_15_a_model_of_one_path_asked_on_another_is_exact(name: str):
    path, mixture = SCHEDULES[name][0], reference_mixture()
    changed = ChangedPath(mixture.velocity(Linear()), Linear(), path)
    for t in (0.1, 0.5, 0.93):
        a, g, da, dg = schedule(name, t)
        x = normal(12, 2) * (a**2 + g**2).sqrt()
        # E[x1|x], written out
        means = torch.tensor([[1.5, 0], [-1, 1.2], [-0.5, -1.6]], dtype=F64)
        weights, stds = torch.tensor([0.5, 0.3, 0.2], dtype=F64), torch.tensor([0.5, 0.6, 0.4], dtype=F64)
        variance = a**2 * stds**2 + g**2
        rest = x[:, None] - a * means
        share = (weights.log() - variance.log() - rest.square().sum(-1) / (2 * variance)).softmax(1)
        x1 = (share[..., None] * (means + (a * stds**2 / variance)[:, None] * rest)).sum(1)
        exact = da * x1 + dg * (x - a * x1) / g
        assert ((changed(x, t) - exact) / exact.abs().max()).abs().max() < 1e-10
        # forgetting the scale of the state is told apart
        unscaled = ChangedPath(mixture.velocity(Linear()), Linear(), Scaled(path, 1.5))
        assert ((unscaled(x, t) - exact) / exact.abs().max()).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["linear", "cosine", "vp", "ve"])
def test_fact_18_edm_preconditioning_whitens_the_target(name: str):
    path, sd = SCHEDULES[name][0], 0.5
    x1, x0 = sd * normal(100_000, 1, seed=0), normal(100_000, 1, seed=1)
    for t in (0.2, 0.5, 0.9):
        a, g, _, _ = schedule(name, t)
        xs, sg = (a * x1 + g * x0) / a, g / a
        c_skip, c_out = sd**2 / (sg**2 + sd**2), sg * sd / (sg**2 + sd**2).sqrt()
        target = path.of_pair(x0, x1, t, "F", data_std=sd)
        torch.testing.assert_close(target, (x1 - c_skip * xs) / c_out, rtol=1e-6, atol=1e-6)
        assert target.var().item() == pytest.approx(1.0, abs=1e-2)
        assert torch.cat([target, xs], 1).T.corrcoef()[0, 1].item() == pytest.approx(0.0, abs=1e-2)
        c = EDMPreconditioning(path, sd).at(t, xs)
        torch.testing.assert_close(c.skip, c_skip)
        torch.testing.assert_close(c.out, c_out)
        torch.testing.assert_close(c.weight * c_out**2, torch.ones((), dtype=F64))


def test_fact_18_names_of_other_libraries_on_the_cosine_path():
    x0, x1, t, sd = normal(8, 2, seed=0), normal(8, 2, seed=1), 0.37, 0.5
    phi = torch.tensor(math.pi / 2 * (1 - t), dtype=F64)
    x, v = phi.cos() * x1 + phi.sin() * x0, math.pi / 2 * (phi.sin() * x1 - phi.cos() * x0)
    torch.testing.assert_close(Cosine().convert(v, x, t, "v", "v_prediction"), -2 / math.pi * v)
    z = sd * x0
    x = phi.cos() * x1 + phi.sin() * z
    F = (phi.cos() * z - phi.sin() * x1) / sd
    source = GaussianSource(std=sd)
    torch.testing.assert_close(phi.cos() * x - phi.sin() * sd * F, x1)
    torch.testing.assert_close(Cosine().convert(F, x, t, "trigflow", "x1", source), x1)
    v = math.pi / 2 * (phi.sin() * x1 - phi.cos() * z)
    torch.testing.assert_close(Cosine().convert(F, x, t, "trigflow", "v", source), v)
    torch.testing.assert_close(v, -math.pi / 2 * sd * F)
    # the score table holds only with the source's own spread
    score = Cosine().convert(F, x, t, "trigflow", "score", source)
    torch.testing.assert_close(score, -z / (phi.sin() * sd**2))


def test_reference_mixture_anchors():
    x, mixture = torch.tensor([[1.0, -0.5]], dtype=F64), reference_mixture()
    torch.testing.assert_close(
        mixture.denoiser()(x, 0.5), torch.tensor([[1.521336, -0.247393]], dtype=F64), rtol=0, atol=1e-6
    )
    v = mixture.velocity()
    torch.testing.assert_close(v(x, 0.05), torch.tensor([[-0.585172, 0.522875]], dtype=F64), rtol=0, atol=1e-6)
    # the exact map from .05 to .95, by a plain RK4 written here
    y, n = x, 400
    for i in range(n):
        t, h = 0.05 + 0.9 * i / n, 0.9 / n
        k1 = v(y, t)
        k2 = v(y + h / 2 * k1, t + h / 2)
        k3 = v(y + h / 2 * k2, t + h / 2)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + v(y + h * k3, t + h))
    torch.testing.assert_close(y, torch.tensor([[1.695478, -0.285762]], dtype=F64), rtol=0, atol=1e-6)
