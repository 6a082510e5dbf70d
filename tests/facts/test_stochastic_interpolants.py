"""Facts of "Stochastic Interpolants" (arXiv 2303.08797): fields, paths, sampling and likelihood.

Most of them on N(-1, .6^2) -> N(1.5, .8^2) with the straight mean and gamma = sqrt(t (1 - t)), where x_t is N(M, V).
The formulas written here are the reference; the library is what is tested.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import Run
from advect.interpolants import (
    Brownian,
    Cosine,
    EncodeDecode,
    Linear,
    LinearVP,
    Mirror,
    StochasticInterpolant,
    Trigonometric,
    Zero,
)
from advect.oracles import Gaussian
from advect.solvers import RK4, ConstantNoise, Context, EulerMaruyama, sde_log_prob
from advect.sources import Gaussian as GaussianSource
from advect.sources import Source
from advect.transport import Transport

F64 = torch.float64
M0, S0, M1, S1 = -1.0, 0.6, 1.5, 0.8
PATH = StochasticInterpolant()
DATA, BASE = Gaussian((M1,), S1**2), Gaussian((M0,), S0**2)
FIELDS = DATA.on(PATH, BASE)


def mean(t):
    return (1 - t) * M0 + t * M1


def variance(t):
    return (1 - t) ** 2 * S0**2 + t**2 * S1**2 + t * (1 - t)


def b(x: Tensor, t) -> Tensor:
    slope = -2 * (1 - t) * S0**2 + 2 * t * S1**2 + 1 - 2 * t
    return (M1 - M0) + slope / (2 * variance(t)) * (x - mean(t))


def v(x: Tensor, t) -> Tensor:
    slope = -2 * (1 - t) * S0**2 + 2 * t * S1**2
    return (M1 - M0) + slope / (2 * variance(t)) * (x - mean(t))


def s(x: Tensor, t) -> Tensor:
    return -(x - mean(t)) / variance(t)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)[:, None]


def test_fact_01_exact_fields_and_how_they_hang_together():
    x = torch.linspace(-3, 3, 61, dtype=F64)[:, None]
    for t in (0.1, 0.3, 0.7):
        torch.testing.assert_close(FIELDS.velocity(x, t), b(x, t), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(FIELDS.mean_velocity(x, t), v(x, t), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(FIELDS.score(x, t), s(x, t), rtol=1e-12, atol=1e-12)
        assert (PATH.velocity_of(v(x, t), s(x, t), t) - b(x, t)).abs().max() < 1e-12
    # with + instead of - before gamma gamma' s
    plus = 2 * v(x, 0.1) - PATH.velocity_of(v(x, 0.1), s(x, 0.1), 0.1)
    assert (plus - b(x, 0.1)).abs().max().item() == pytest.approx(7.7, abs=0.1)


def test_fact_02_latent_given_the_state():
    g = torch.Generator().manual_seed(0)
    x0, x1 = BASE.sample(2_000_000, g), DATA.sample(2_000_000, g)
    point = PATH.sample(x0, x1, torch.tensor(0.3, dtype=F64), g)
    assert point.z is not None
    slope = torch.cat([point.x, point.z], 1).T.cov()
    assert (slope[0, 1] / slope[0, 0]).item() == pytest.approx(1.0321, abs=0.01)
    window = (point.x - 0.4).abs() < 0.05
    assert point.z[window].mean().item() == pytest.approx(0.67087, abs=0.01)
    assert FIELDS.latent_mean(column(0.4), 0.3).item() == pytest.approx(0.67087, abs=1e-5)
    assert FIELDS.latent_mean(column(-1.0), 0.3).item() == pytest.approx(-0.77408, abs=1e-5)
    assert PATH.eta_of(s(column(-1.0), 0.3), 0.3).item() == pytest.approx(-0.77408, abs=1e-5)


def _sde_moments(e: float, score, paths: int = 100_000) -> tuple[float, float]:
    run = Run(torch.Generator().manual_seed(0))
    x = BASE.sample(paths, run.generator)
    end = EulerMaruyama(ConstantNoise(e))(b, x, 500, run, context=Context(PATH, score=score))
    return end.mean().item(), end.std().item()


@pytest.mark.parametrize("e", [0.0, 0.5, 2.0])
def test_fact_03_the_sde_keeps_the_marginals_at_every_noise_level(e: float):
    m, std = _sde_moments(e, s)
    assert m == pytest.approx(M1, abs=0.01)
    assert std == pytest.approx(S1, abs=0.01)


@pytest.mark.parametrize(("e", "no_score", "less_noise", "sign"), [(2.0, 2.42, 0.567, 68), (0.5, 1.40, 0.60, 3.0)])
def test_fact_03_wrong_sdes_are_told_apart(e: float, no_score: float, less_noise: float, sign: float):
    assert _sde_moments(e, lambda x, t: 0 * x, paths=20_000)[1] == pytest.approx(no_score, rel=0.02)
    # drift of level e with noise sqrt(e): half the level, twice the score
    assert _sde_moments(e / 2, lambda x, t: 2 * s(x, t), paths=20_000)[1] == pytest.approx(less_noise, rel=0.02)
    assert _sde_moments(e, lambda x, t: -s(x, t), paths=20_000)[1] == pytest.approx(sign, rel=0.02)


SOURCE = GaussianSource(S0, M0)
LOG_RHO = {0.0: -2.4536, 1.0: -0.8911, 2.0: -0.8911}


def _sde_logs(x: float, e: float, paths: int) -> Tensor:
    rows = torch.full((paths, 1), x, dtype=F64)
    run, context = Run(torch.Generator().manual_seed(0)), Context(PATH, SOURCE, score=s)
    return sde_log_prob(b, rows, ConstantNoise(e), SOURCE, 500, run=run, context=context)


@pytest.mark.parametrize("e", [0.3, 1.0])
def test_fact_04_likelihood_along_the_sde(e: float):
    for x, exact in LOG_RHO.items():
        logs = _sde_logs(x, e, 10_000)
        # .005 is the bias of 500 steps
        assert logs.mean().item() == pytest.approx(exact, abs=0.005 + 4 * logs.std().item() / 100)


@pytest.mark.slow
@pytest.mark.parametrize("e", [0.3, 1.0])
def test_fact_04_likelihood_along_the_sde_with_many_paths(e: float):
    for x, exact in LOG_RHO.items():
        assert _sde_logs(x, e, 400_000).mean().item() == pytest.approx(exact, abs=0.02)


def test_fact_04_wrong_likelihoods_are_told_apart():
    e, paths, n = 0.3, 40_000, 500
    logs = _sde_logs(0.0, e, paths)
    assert (logs.logsumexp(0) - math.log(paths)).item() == pytest.approx(-1.66, abs=0.25)  # heavy tail
    # the terms one by one, along paths simulated here
    g = torch.Generator().manual_seed(0)
    x = torch.zeros(paths, 1, dtype=F64)
    div_b, div_s, square = 0.0, 0.0, torch.zeros(paths, 1, dtype=F64)
    for k in range(n):
        t = 1 - k / n
        slope = -2 * (1 - t) * S0**2 + 2 * t * S1**2 + 1 - 2 * t
        div_b, div_s = div_b + slope / (2 * variance(t)) / n, div_s - 1 / variance(t) / n
        square = square + s(x, t).square() / n
        noise = torch.randn(x.shape, dtype=F64, generator=g)
        x = x - (b(x, t) - e * s(x, t)) / n + math.sqrt(2 * e / n) * noise
    start = (-0.5 * ((x - M0) / S0) ** 2 - math.log(S0 * math.sqrt(2 * math.pi))).mean().item()
    q = square.mean().item()
    right = start - (div_b + e * div_s) - e * q
    assert right == pytest.approx(logs.mean().item(), abs=0.04)
    for wrong, said in (
        (start - div_b - e * q, -3.08),
        (start - (div_b - e * div_s) - e * q, -3.70),
        (start - (div_b + e * div_s) + e * q, 0.55),
        (start - (div_b + e * div_s), -0.96),
    ):
        assert wrong == pytest.approx(said, abs=0.05)
        assert abs(logs.mean().item() - wrong) > 0.5


def test_fact_05_one_sided_paths_give_the_score_and_others_without_a_latent_refuse():
    x = torch.linspace(-3, 3, 13, dtype=F64)[:, None]
    for path in (Linear(), Cosine(), LinearVP()):
        on, t = DATA.on(path), 0.4
        score = path.convert(on.velocity(x, t), x, t, "v", "score")
        a, g, da, dg = path.coefficients(t)
        torch.testing.assert_close(score, -(x - a * M1) / (a**2 * S1**2 + g**2), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(score, -on.source_mean(x, t) / g, rtol=1e-10, atol=1e-10)
        velocity = da * on.denoiser(x, t) + dg * on.source_mean(x, t)
        torch.testing.assert_close(on.velocity(x, t), velocity, rtol=1e-10, atol=1e-10)

    class Uniform(Source):
        def sample(self, shape, cond=None, generator=None, *, rows=None, x1=None, dtype=None, device=None):
            raise NotImplementedError  # never drawn from: the test asks what is refused of such a source

    transport = Transport(Uniform(), interpolant=StochasticInterpolant(gamma=Zero()))
    assert transport.score_refusal is not None
    context = Context(transport.interpolant, transport.source, score_refusal=transport.score_refusal)
    with pytest.raises(InputError, match="no Gaussian variable"):
        EulerMaruyama(ConstantNoise(0.5))(b, column(0.0), 2, context=context)


def test_fact_06_trigonometric_and_encode_decode_paths():
    t = torch.linspace(0, 1, 101, dtype=F64)
    ends, inside = torch.tensor([0.0, 1.0], dtype=F64), torch.linspace(0.05, 0.95, 91, dtype=F64)
    for amplitude in (0.5, 1.0, 3.0):
        path = StochasticInterpolant(Trigonometric(), Brownian(amplitude))
        c = path.coefficients(t)
        assert (c.a**2 + c.g**2 + amplitude * t * (1 - t) - 1).abs().max() < 1e-12
        c = path.coefficients(ends)
        assert (torch.stack([c.a, c.g]) - torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=F64)).abs().max() < 1e-12
        h = 1e-5
        c, up, down = path.coefficients(inside), path.coefficients(inside + h), path.coefficients(inside - h)
        assert (c.da - (up.a - down.a) / (2 * h)).abs().max() < 1e-6
        assert (c.dg - (up.g - down.g) / (2 * h)).abs().max() < 1e-6
    with pytest.raises(InputError, match="amplitude below 4"):
        StochasticInterpolant(Trigonometric(), Brownian(4.0))
    middle = StochasticInterpolant(EncodeDecode()).coefficients(0.5)
    assert middle.a == 0
    assert middle.g == 0


def test_fact_08_mirror_breathes_out_and_in():
    m, std = 0.5, 0.8
    path = StochasticInterpolant(Mirror(), Brownian())
    field = Gaussian((m,), std**2).velocity(path, GaussianSource())
    x = column(-1.0, 0.2, 2.0)
    half = RK4()(field, x, [i / 800 for i in range(401)])
    torch.testing.assert_close((half - m) / (x - m), torch.full_like(x, 1.17925), rtol=0, atol=1e-4)
    torch.testing.assert_close((half - m) / (x - m), torch.full_like(x, math.sqrt(1 + 0.25 / std**2)))
    wrong = RK4()(lambda y, t: -field(y, t), x, [i / 800 for i in range(401)])
    assert ((wrong - m) / (x - m)).mean().item() == pytest.approx(0.848, abs=1e-3)
    # the whole way is the identity with either sign, and so tells nothing of the sign
    for sign in (1, -1):
        torch.testing.assert_close(RK4()(lambda y, t, c=sign: c * field(y, t), x, 800), x, rtol=1e-6, atol=1e-6)


def test_fact_09_the_ode_maps_quantiles_to_quantiles():
    x = column(-2.0, 0.0, 1.0)
    expected = column(0.16667, 2.83333, 4.16667)
    end = RK4()(FIELDS.velocity, x, 200)
    assert (end - expected).abs().max() < 1e-4
    assert (end - (M1 + S1 / S0 * (x - M0))).abs().max() < 1e-4
    back = RK4()(FIELDS.velocity, end, [1 - i / 200 for i in range(201)])
    assert (back - x).abs().max() < 1e-4
    only_mean = RK4()(FIELDS.mean_velocity, x, 200)
    torch.testing.assert_close(only_mean, column(0.291, 2.709, 3.918), rtol=0, atol=2e-3)


# fact 11: exact score, corrupted velocity


def _corrupted(delta: float):
    return lambda x, t: b(x, t) + delta * torch.sin(2 * x)


def _fokker_planck_kl(e: float, delta: float) -> float:
    """KL(rho1 || rho1_hat) by a conservative Crank-Nicolson scheme, 1601 cells on [-8, 8], 2000 steps."""
    banded = pytest.importorskip("scipy.linalg").solve_banded
    n, steps = 1601, 2000
    x = np.linspace(-8, 8, n)
    h, dt = x[1] - x[0], 1 / steps
    faces = torch.tensor(0.5 * (x[1:] + x[:-1]))

    def normal(m: float, std: float) -> np.ndarray:
        p = np.exp(-0.5 * ((x - m) / std) ** 2)
        return p / (p.sum() * h)

    p = normal(M0, S0)
    for k in range(steps):
        t = (k + 0.5) * dt
        drift = (_corrupted(delta)(faces, t) + e * s(faces, t)).numpy()
        # flux at face i+1/2 = drift (p_i + p_{i+1}) / 2 - e (p_{i+1} - p_i) / h; none through the walls
        left, right = drift / 2 + e / h, drift / 2 - e / h
        diagonal = np.zeros(n)
        diagonal[:-1] -= left / h
        diagonal[1:] += right / h
        upper, lower = -right / h, left / h
        rate = diagonal * p
        rate[:-1] += upper * p[1:]
        rate[1:] += lower * p[:-1]
        matrix = np.zeros((3, n))
        matrix[0, 1:], matrix[1], matrix[2, :-1] = -0.5 * dt * upper, 1 - 0.5 * dt * diagonal, -0.5 * dt * lower
        p = banded((1, 1), matrix, p + 0.5 * dt * rate)
    q = normal(M1, S1)
    keep = q > 1e-14
    return float((q[keep] * np.log(q[keep] / p[keep])).sum() * h)


LEVELS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
KL = {0.5: (0.0335, 0.0218, 0.0141, 0.0053, 0.0014, 0.0001), 1.0: (0.207, 0.120, 0.066, 0.020, 0.0053, 0.0006)}


@pytest.mark.parametrize("delta", [0.5, 1.0])
def test_fact_11_noise_forgives_a_wrong_velocity(delta: float):
    for e, said in list(zip(LEVELS, KL[delta], strict=True))[::2]:
        assert _fokker_planck_kl(e, delta) == pytest.approx(said, rel=0.02, abs=6e-5)


@pytest.mark.slow
def test_fact_11_noise_forgives_a_wrong_velocity_at_every_level():
    for delta, row in KL.items():
        for e, said in zip(LEVELS, row, strict=True):
            assert _fokker_planck_kl(e, delta) == pytest.approx(said, rel=0.02, abs=6e-5)
    for e in LEVELS:
        assert abs(_fokker_planck_kl(e, 0.0)) < 1e-5


def _particle_kl(e: float, score) -> float:
    run = Run(torch.Generator().manual_seed(0))
    x = BASE.sample(200_000, run.generator)
    context = Context(PATH, score=score)
    end = EulerMaruyama(ConstantNoise(e))(_corrupted(0.5), x, 500, run, context=context).flatten()
    edges = torch.linspace(M1 - 4 * S1, M1 + 4 * S1, 61, dtype=F64)
    p = torch.special.ndtr((edges - M1) / S1).diff()
    q = torch.histogram(end, edges)[0] / len(end)
    return torch.special.xlogy(p, p / q).sum().item()


@pytest.mark.slow
def test_fact_11_particles_agree_and_noise_without_the_score_harms():
    for e, said in ((0.0, 0.034), (0.1, 0.022), (0.3, 0.014), (1.0, 0.005)):
        assert _particle_kl(e, s) == pytest.approx(said, rel=0.15)
    for e, said in ((0.1, 0.079), (0.3, 0.181), (1.0, 0.431)):
        assert _particle_kl(e, lambda x, t: 0 * x) == pytest.approx(said, rel=0.15)
