"""Closed forms against automatic differentiation, quadrature and simulation."""

from __future__ import annotations

import math

import pytest
import torch

from advect.errors import InputError
from advect.interpolants import (
    VE,
    VPSDE,
    Brownian,
    Cosine,
    EncodeDecode,
    Linear,
    LinearVP,
    Mirror,
    Polynomial,
    Quadratic,
    Scaled,
    SigmoidBump,
    StochasticInterpolant,
    SubVP,
    Trigonometric,
    Zero,
)
from advect.oracles import FiniteData, Gaussian, GaussianFlowMap, GaussianMixture, reference_mixture
from advect.parts import build, config_of
from advect.sources import Gaussian as GaussianSource
from advect.sources import GaussianMixture as MixtureSource
from advect.sources import Source

F64 = torch.float64


def rotated(angle: float, first: float, second: float) -> tuple[tuple[float, float], ...]:
    c, s = math.cos(angle), math.sin(angle)
    R = torch.tensor([[c, -s], [s, c]], dtype=F64)
    m = R @ torch.diag(torch.tensor([first, second], dtype=F64)) @ R.T
    m = 0.5 * (m + m.T)
    return tuple(tuple(row) for row in m.tolist())


FULL = GaussianMixture(
    (0.5, 0.2, 0.3),
    ((1.5, 0.0), (-1.0, 1.2), (-0.5, -1.6)),
    (rotated(0.5, 0.09, 1.44), 0.36, rotated(-1.0, 0.5, 0.2)),
    labels=(0, 1, 0),
)
OTHER = GaussianMixture((0.7, 0.3), ((-1.0, 0.5), (2.0, 1.0)), (0.5, 0.2))
SKEWED = Gaussian((0.3, -0.2), rotated(1.2, 2.0, 0.4))
SHIFTED_SOURCE = GaussianSource(std=0.7, mean=0.4)

CASES = [
    (reference_mixture(), Linear(), GaussianSource()),
    (FULL, Linear(), SHIFTED_SOURCE),
    (FULL, Cosine(), GaussianSource()),
    (FULL, VPSDE(), SHIFTED_SOURCE),
    (FULL, VE(0.1, 5.0), GaussianSource()),
    (FULL, LinearVP(), GaussianSource()),
    (FULL, SubVP(), GaussianSource()),
    (FULL, Scaled(Polynomial(2.0), 2.0), GaussianSource()),
    (FULL, StochasticInterpolant(), OTHER),
    (FULL, StochasticInterpolant(Trigonometric(), Brownian(0.5)), OTHER),
    (FULL, StochasticInterpolant(EncodeDecode(), Quadratic()), OTHER),
    (FULL, StochasticInterpolant(Mirror(), SigmoidBump()), GaussianSource()),
    (FULL, Linear(), SKEWED),  # covariances that do not commute
    (FULL, StochasticInterpolant(gamma=Zero()), SKEWED),
]
every_case = pytest.mark.parametrize(("oracle", "path", "source"), CASES)


def points(n: int = 7, seed: int = 3) -> torch.Tensor:
    return 1.5 * torch.randn(n, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))


@every_case
@pytest.mark.parametrize("label", [None, 0, 1, 2])
def test_score_is_the_gradient_of_log_prob(oracle, path, source, label):
    on, x = oracle.on(path, source), points().requires_grad_()
    label = None if label is None else torch.full((7,), label)
    for t in (0.1, 0.37, 0.9):
        grad = torch.autograd.grad(on.log_prob(x, t, label=label).sum(), x)[0]
        torch.testing.assert_close(on.score(x, t, label=label).detach(), grad, rtol=1e-9, atol=1e-9)


@every_case
def test_velocity_and_density_obey_the_continuity_equation(oracle, path, source):
    on, x = oracle.on(path, source), points()
    for t in (0.1, 0.37, 0.9):
        time = torch.tensor(t, dtype=F64, requires_grad=True)
        rate = torch.stack([torch.autograd.grad(lp, time, retain_graph=True)[0] for lp in on.log_prob(x, time)])
        jacobian = torch.func.vmap(torch.func.jacrev(lambda y, t=t: on.velocity(y[None], t)[0]))(x)
        divergence = jacobian.diagonal(dim1=1, dim2=2).sum(1)
        flux = (on.velocity(x, t) * on.score(x, t)).sum(1)
        torch.testing.assert_close(rate.detach(), -divergence - flux, rtol=1e-8, atol=1e-8)


@every_case
def test_density_is_normalised(oracle, path, source):
    side = torch.linspace(-20, 20, 401, dtype=F64)
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    total = oracle.on(path, source).log_prob(grid, 0.4).exp().sum() * (side[1] - side[0]) ** 2
    assert total.item() == pytest.approx(1.0, abs=1e-6)


@every_case
def test_ends_add_up_to_the_state_and_to_the_velocity(oracle, path, source):
    on, x, t = oracle.on(path, source), points(), 0.37
    c = path.coefficients(t)
    x1, x0 = on.denoiser(x, t), on.source_mean(x, t)
    state, velocity = c.a * x1 + c.g * x0, c.da * x1 + c.dg * x0
    if isinstance(path, StochasticInterpolant):
        time = torch.tensor(t, dtype=F64)
        torch.testing.assert_close(on.mean_velocity(x, t), velocity, rtol=1e-10, atol=1e-10)
        if isinstance(path.gamma, Zero):
            return
        eta = on.latent_mean(x, t)
        state, velocity = state + path.gamma(time) * eta, velocity + path.gamma.derivative(time) * eta
        torch.testing.assert_close(path.score_of(eta, t), on.score(x, t), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(state, x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(on.velocity(x, t), velocity, rtol=1e-10, atol=1e-10)


@every_case
def test_velocity_and_score_are_finite_and_continuous_at_both_ends(oracle, path, source):
    on, x = oracle.on(path, source), points()
    for end, near in ((0.0, 1e-7), (1.0, 1 - 1e-7)):
        if end == 1.0 and isinstance(path, (VPSDE, LinearVP)) and source.gaussian[0]:
            continue  # the mean of the source falls with infinite slope there
        for field in (on.velocity, on.score, on.denoiser):
            at_end = field(x, end)
            assert torch.isfinite(at_end).all()
            torch.testing.assert_close(at_end, field(x, near), rtol=1e-4, atol=1e-4)


def test_velocity_agrees_with_the_average_over_simulated_pairs():
    g = torch.Generator().manual_seed(0)
    on, path = FULL.on(StochasticInterpolant(), OTHER), StochasticInterpolant()
    x1, x0 = FULL.sample(1_000_000, g), OTHER.sample(1_000_000, g)
    t = torch.tensor(0.3, dtype=F64)
    point = path.sample(x0, x1, t, g)
    for centre in ((0.0, 0.5), (-0.8, 0.4)):
        at = torch.tensor([centre], dtype=F64)
        near = (point.x - at).norm(dim=1) < 0.1
        # compare with the field averaged over the same states, so that the window has no bias
        got, exact = point.v[near], on.velocity(point.x[near], t)
        error = (got - exact).mean(0) / ((got - exact).std(0) / near.sum().sqrt())
        assert near.sum() > 3000
        assert error.abs().max() < 4
        assert point.z is not None
        error = point.z[near] - on.latent_mean(point.x[near], t)
        assert (error.mean(0) / (error.std(0) / near.sum().sqrt())).abs().max() < 4


def test_a_mixture_source_is_the_mixture_oracle_at_the_start():
    source = MixtureSource(((-1.0, 0.5), (2.0, 1.0)), (0.5**0.5, 0.2**0.5), (0.7, 0.3))
    a, b = FULL.on(StochasticInterpolant(), source), FULL.on(StochasticInterpolant(), OTHER)
    torch.testing.assert_close(a.velocity(points(), 0.3), b.velocity(points(), 0.3))
    torch.testing.assert_close(a.log_prob(points(), 0.0), source.log_prob(points()))


@pytest.mark.parametrize(("path", "source"), [(Cosine(), SHIFTED_SOURCE), (StochasticInterpolant(), OTHER)])
def test_posterior_draws_have_the_moments_of_the_denoiser(path, source):
    on = FULL.on(path, source)
    x = torch.tensor([[0.5, -0.3]], dtype=F64).expand(200_000, -1)
    draws = on.posterior(x, 0.4, torch.Generator().manual_seed(1))
    error = (draws.mean(0) - on.denoiser(x[:1], 0.4)[0]) / (draws.std(0) / len(draws) ** 0.5)
    assert error.abs().max() < 4
    # its covariance is the Jacobian of the denoiser times a known factor on affine paths: Cov = g^2 s^2 / a dD/dx
    if isinstance(path, Cosine):
        t = torch.tensor(0.4, dtype=F64)
        jacobian = torch.func.jacrev(lambda y: on.denoiser(y[None], t)[0])(x[0])
        expected = jacobian * (path.sigma(t) * source.std) ** 2 / path.alpha(t)
        torch.testing.assert_close(draws.T.cov(), expected, rtol=0.02, atol=0.01)
    label = torch.ones(len(x), dtype=torch.int64)
    only = on.posterior(x, 0.4, torch.Generator().manual_seed(1), label=label)
    error = (only.mean(0) - on.denoiser(x[:1], 0.4, label=label[:1])[0]) / (only.std(0) / len(only) ** 0.5)
    assert error.abs().max() < 4


def test_same_seed_same_draws():
    on, x = FULL.on(), points()
    a, b, c = (on.posterior(x, 0.5, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    d, e = (FULL.sample(5, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(d, e)


def test_drawn_data_have_the_moments_of_the_mixture():
    x, y = FULL.draw(400_000, torch.Generator().manual_seed(0))
    w, m = FULL.log_weights.exp(), FULL.means
    mean = w @ m
    spread = (w[:, None, None] * (FULL.components.matrices() + m[:, :, None] * m[:, None, :])).sum(0)
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.01)
    torch.testing.assert_close(x.T.cov(), spread - mean[:, None] * mean[None], rtol=0, atol=0.015)
    assert (y == 1).double().mean().item() == pytest.approx(0.2, abs=0.005)


def test_labels_pick_components_and_the_null_label_all():
    on, x = FULL.on(), points()
    both = on.responsibilities(x, 0.6)
    first = on.responsibilities(x, 0.6, label=torch.zeros(7, dtype=torch.int64))
    assert (first[:, 1] == 0).all()
    torch.testing.assert_close(first[:, 0] / first[:, 2], both[:, 0] / both[:, 2])
    null = torch.full((7,), 2)
    torch.testing.assert_close(on.velocity(x, 0.6, label=null), on.velocity(x, 0.6))
    alone = Gaussian((-1.0, 1.2), 0.36).velocity()
    torch.testing.assert_close(on.velocity(x, 0.6, label=torch.ones(7, dtype=torch.int64)), alone(x, 0.6))


def test_times_per_sample_and_types():
    on, x = FULL.on(Cosine(), SHIFTED_SOURCE), points()
    t = torch.linspace(0.05, 0.95, 7, dtype=F64)
    for field in (on.velocity, on.score, on.denoiser, on.log_prob, on.responsibilities):
        one_by_one = torch.cat([field(x[i : i + 1], t[i]) for i in range(7)])
        torch.testing.assert_close(field(x, t), one_by_one)
        assert field(x.float(), 0.3).dtype == torch.float32
    with pytest.raises(InputError, match="one time per sample"):
        on.velocity(x, t[:3])


def test_states_of_any_shape():
    flat = Gaussian([0.1, -0.2, 0.3, 0.0], 0.5).on()
    image = Gaussian([[[0.1, -0.2], [0.3, 0.0]]], 0.5).on()
    x = torch.randn(3, 1, 2, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(image.velocity(x, 0.3), flat.velocity(x.flatten(1), 0.3).reshape(x.shape))
    assert image.posterior(x, 0.3).shape == x.shape


@pytest.mark.parametrize(
    ("path", "source"),
    [(Linear(), GaussianSource()), (Cosine(), SKEWED), (VPSDE(), GaussianSource()), (StochasticInterpolant(), OTHER)],
)
def test_flow_map_is_a_semigroup_that_follows_its_velocity(path, source):
    data = Gaussian((1.0, -0.5), rotated(0.5, 0.09, 1.44))
    if isinstance(source, GaussianMixture):
        source = Gaussian((-1.0, 0.5), 0.5)
    flow, x = data.flow_map(path, source), points()
    r, s, t = 0.2, 0.45, 0.8
    torch.testing.assert_close(flow.jump(flow.jump(x, r, s), s, t), flow.jump(x, r, t))
    torch.testing.assert_close(flow.jump(flow.jump(x, r, t), t, r), x)
    torch.testing.assert_close(x + (t - r) * flow(x, r, t), flow.jump(x, r, t))
    assert torch.equal(flow(x, r, r), flow.velocity(x, torch.tensor(r, dtype=F64)))
    _, speed = torch.func.jvp(
        lambda time: flow.jump(x, r, time), (torch.tensor(t, dtype=F64),), (torch.ones((), dtype=F64),)
    )
    torch.testing.assert_close(speed, flow.velocity(flow.jump(x, r, t), t))


def test_flow_map_of_several_components_is_refused():
    with pytest.raises(InputError, match="3 pairs of components"):
        GaussianFlowMap(FULL.on())


# finite data


def test_finite_data_is_the_limit_of_narrow_gaussians():
    where = [[1.0, 0.0], [-0.5, 0.7], [0.2, -1.1], [0.9, 0.4]]
    narrow = GaussianMixture([1.0] * 4, where, [1e-12] * 4, labels=(0, 1, 1, 0))
    finite, x = FiniteData(where, labels=(0, 1, 1, 0)), points()
    for path in (Linear(), Cosine(), VPSDE()):
        for source in (GaussianSource(), SHIFTED_SOURCE):
            a, b = finite.on(path, source), narrow.on(path, source)
            for t in (0.0 if not isinstance(path, VPSDE) else 0.1, 0.3, 0.8):
                for label in (None, torch.tensor([0, 1, 2, 0, 1, 2, 1])):
                    for name in ("velocity", "score", "denoiser", "source_mean", "log_prob", "responsibilities"):
                        got, want = (getattr(on, name)(x, t, label=label) for on in (a, b))
                        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_finite_data_denoises_to_the_nearest_point_at_the_end():
    where = torch.tensor([[1.0, 0.0], [-0.5, 0.7], [0.2, -1.1]], dtype=F64)
    on, x = FiniteData(where).on(), points()
    nearest = where[torch.cdist(x, where).argmin(1)]
    torch.testing.assert_close(on.denoiser(x, 1.0), nearest)
    t = torch.tensor([1.0, 0.5, 1.0, 0.999999, 1.0, 0.0, 1.0], dtype=F64)
    assert torch.isfinite(on.denoiser(x, t)).all()
    assert torch.isin(on.posterior(x, 0.7, torch.Generator().manual_seed(0)), where).all()
    middle = torch.tensor([[0.25, 0.35]], dtype=F64)  # as far from the first as from the second
    torch.testing.assert_close(on.denoiser(middle, 1.0), middle)


def test_finite_data_draws_its_points():
    x, y = FiniteData([[1.0], [2.0], [4.0]]).draw(1000, torch.Generator().manual_seed(0))
    assert sorted(set(x.flatten().tolist())) == [1.0, 2.0, 4.0]
    torch.testing.assert_close(x.flatten(), torch.tensor([1.0, 2.0, 4.0], dtype=F64)[y])


# parts and errors


@pytest.mark.parametrize("oracle", [FULL, SKEWED, reference_mixture(), FiniteData([[1.0, 2.0]])])
def test_an_oracle_is_a_part(oracle):
    again, x = build(config_of(oracle)), points()
    assert torch.equal(again.velocity()(x, 0.4), oracle.velocity()(x, 0.4))


def test_what_has_no_closed_form_is_said():
    class Cauchy(Source):
        def sample(self, shape, cond=None, generator=None, *, rows=None, x1=None, dtype=None, device=None):
            raise NotImplementedError  # never drawn from: the test asks what is refused of such a source

    for make, sentence in (
        (lambda: FULL.on(Linear(), Cauchy()), "source is Cauchy"),
        (lambda: FiniteData([[1.0]]).on(Linear(), Cauchy()), "source is Cauchy"),
        (lambda: FiniteData([[1.0]]).on(StochasticInterpolant()), "the path is StochasticInterpolant"),
        (lambda: FULL.on(StochasticInterpolant(), SKEWED), "do not commute"),
        (lambda: FULL.on(Linear(), Gaussian((0.0,))), "source has states of 1 dimensions, the data of 2"),
        (lambda: FULL.on(Linear(), MixtureSource(((0.0,),))), "source has states of 1 dimensions"),
        (lambda: FULL.on().latent_mean(points(), 0.5), "only a stochastic path"),
        (lambda: GaussianMixture((1.0,), ((0.0,), (1.0,)), (1.0, 1.0)), "there are 1 weights"),
        (lambda: GaussianMixture((1.0, -1.0), ((0.0,), (1.0,)), (1.0, 1.0)), "weights are"),
        (lambda: Gaussian((0.0, 0.0), 0.0), "a variance is above 0"),
        (lambda: Gaussian((0.0, 0.0), ((1.0, 2.0), (2.0, 1.0))), "symmetric and positive definite"),
        (lambda: Gaussian((0.0, 0.0), ((1.0,),)), "states have 2 dimensions"),
        (lambda: FiniteData([[1.0]], labels=(0, 1)), "labels have shape"),
    ):
        with pytest.raises(InputError, match=sentence):
            make()


def test_noise_in_the_labels_mixes_the_class_with_all_of_the_data():
    noisy = GaussianMixture((0.5, 0.2, 0.3), ((1.5, 0.0), (-1.0, 1.2), (-0.5, -1.6)), (0.3, 0.4, 0.2), (0, 1, 0), 0.4)
    clean = GaussianMixture((0.5, 0.2, 0.3), ((1.5, 0.0), (-1.0, 1.2), (-0.5, -1.6)), (0.3, 0.4, 0.2), (0, 1, 0))
    assert build(config_of(noisy)).label_noise == 0.4
    x, t, label = points(), 0.4, torch.arange(7) % 3  # the last class is the null
    density = 0.6 * clean.log_prob()(x, t, label=label).exp() + 0.4 * clean.log_prob()(x, t).exp()
    assert (noisy.log_prob()(x, t, label=label).exp() - density).abs().max() < 1e-12
    flux = 0.6 * clean.log_prob()(x, t, label=label).exp()[:, None] * clean.velocity()(x, t, label=label)
    flux = flux + 0.4 * clean.log_prob()(x, t).exp()[:, None] * clean.velocity()(x, t)
    v = noisy.velocity()(x, t, label=label)
    assert (v - flux / density[:, None]).abs().max() < 1e-12
    null = label == 2
    assert torch.equal(v[null], clean.velocity()(x, t)[null])
    drawn = [law.draw(5, torch.Generator().manual_seed(0)) for law in (noisy, clean)]
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))
    with pytest.raises(InputError, match=r"label_noise is 1\.0"):
        GaussianMixture((1.0,), ((0.0, 0.0),), (1.0,), label_noise=1.0)
