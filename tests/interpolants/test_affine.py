"""Laws that hold for every affine path."""

from __future__ import annotations

import math

import pytest
import torch

from advect.errors import InputError
from advect.interpolants import (
    KINDS,
    VE,
    VPSDE,
    AffineInterpolant,
    Cosine,
    EDMPreconditioning,
    Linear,
    LinearVP,
    Polynomial,
    Scaled,
    Shifted,
    SourceScaled,
    SubVP,
)
from advect.parts import build, config_of
from advect.sources import Gaussian

PATHS: list[AffineInterpolant] = [
    Linear(),
    Cosine(),
    LinearVP(),
    Polynomial(2.0),
    Polynomial(0.5),
    VPSDE(),
    SubVP(),
    VE(),
    Scaled(Linear(), 3.0),
    Scaled(VPSDE(0.5, 8.0), 0.25),
    Shifted(Linear(), 3.0),
    Shifted(LinearVP(), 0.4),
    SourceScaled(Linear(), 0.5),
    SourceScaled(VPSDE(), 2.0),
]
every_path = pytest.mark.parametrize("path", PATHS, ids=repr)
INSIDE = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)


def draws(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(2))  # pyright: ignore


def test_every_member_of_the_seat_is_tested():
    def below(cls: type) -> set[type]:
        return {cls}.union(*[below(sub) for sub in cls.__subclasses__()])

    members = {c for c in below(AffineInterpolant) if not c.__abstractmethods__ and c.__module__.startswith("advect.")}
    assert members == {type(path) for path in PATHS}


@every_path
def test_derivatives_are_those_of_the_coefficients(path: AffineInterpolant):
    t = INSIDE.clone().requires_grad_()
    for value, derivative in ((path.alpha(t), path.d_alpha(t)), (path.sigma(t), path.d_sigma(t))):
        grad = torch.autograd.grad(value.sum(), t, allow_unused=True)[0] if value.requires_grad else None
        expected = torch.zeros_like(t) if grad is None else grad
        torch.testing.assert_close(derivative, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(path.sigma_d_sigma(t), path.sigma(t) * path.d_sigma(t), rtol=1e-10, atol=1e-12)


@every_path
def test_half_log_snr_is_log_of_the_ratio_rises_and_inverts(path: AffineInterpolant):
    half_log_snr = path.half_log_snr(INSIDE)
    torch.testing.assert_close(half_log_snr, (path.alpha(INSIDE) / path.sigma(INSIDE)).log(), rtol=1e-9, atol=1e-9)
    assert (half_log_snr.diff() > 0).all()
    torch.testing.assert_close(path.time_of_half_log_snr(half_log_snr), INSIDE, rtol=1e-11, atol=1e-11)


@every_path
def test_ends(path: AffineInterpolant):
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    bare = path.path if isinstance(path, (Scaled, Shifted, SourceScaled)) else path
    scale = path.scale if isinstance(path, Scaled) else 1.0
    assert path.alpha(one) == scale
    if isinstance(bare, VE):
        assert path.sigma(one).item() == pytest.approx(0.002, abs=1e-15)
        return
    assert path.sigma(one) == 0
    assert path.half_log_snr(one) == math.inf
    assert path.time_of_half_log_snr(torch.tensor(math.inf, dtype=torch.float64)) == 1
    if not isinstance(bare, (VPSDE, SubVP)):
        assert path.alpha(zero) == 0
        assert path.sigma(zero) == (path.scale if isinstance(path, SourceScaled) else scale)
        assert path.half_log_snr(zero) == -math.inf


@every_path
@pytest.mark.parametrize("t", [0.1, 0.37, 0.95])
@pytest.mark.parametrize("source", [Gaussian(), Gaussian(std=0.5, mean=1.5)], ids=["unit", "general"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_every_prediction_turns_into_every_other(path: AffineInterpolant, t: float, source: Gaussian, as_tensor: bool):
    x0, x1 = draws(6, 3)
    time = torch.full((6,), t, dtype=torch.float64)
    x = path.sample(x0, x1, time).x
    says = {kind: path.of_pair(x0, x1, time, kind, source) for kind in KINDS}
    for have in KINDS:
        for want in KINDS:
            got = path.convert(says[have], x, time if as_tensor else t, have, want, source)
            # VE holds x = x1 + 30 x0: x1 from a prediction of x0 alone cancels 2 digits, and so do others
            torch.testing.assert_close(got, says[want], rtol=1e-9, atol=1e-9)


@every_path
@pytest.mark.parametrize("have", ["v", "F", "trigflow", "v_prediction", "flow_prediction"])
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_safe_predictions_give_both_ends_at_both_ends_of_time(path: AffineInterpolant, have: str, t: float):
    x0, x1 = draws(4, 2)
    time = torch.full((4,), t, dtype=torch.float64)
    x = path.alpha(time)[:, None] * x1 + path.sigma(time)[:, None] * x0
    value = path.of_pair(x0, x1, time, have)  # pyright: ignore[reportArgumentType]
    if have == "v" and not torch.isfinite(value).all():
        pytest.skip("the velocity of a pair is infinite at this end of this path")
    bare = path.path if isinstance(path, Scaled) else path
    for number in (t, time):
        pair = path.pair(value, x, number, have)  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(pair.x0, x0, rtol=1e-9, atol=1e-9)
        if have == "v" and isinstance(bare, Polynomial) and bare.n > 1 and t == 0:
            continue  # v = 0 there, whatever x1 is
        torch.testing.assert_close(pair.x1, x1, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", [LinearVP(), VPSDE(), Shifted(LinearVP(), 0.4), Scaled(VPSDE(), 2.0)], ids=repr)
def test_score_gives_a_finite_velocity_where_sigma_has_infinite_slope(path: AffineInterpolant):
    x, score = draws(4, 2)
    got = path.convert(score, x, 1.0, "score", "v")
    near = path.convert(score, x, 1 - 1e-9, "score", "v")
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got, near, rtol=1e-5, atol=1e-5)
    # and a network's finite v gives a finite x1 there, the state itself
    scale = path.scale if isinstance(path, Scaled) else 1.0
    torch.testing.assert_close(path.x1_from_v(score, x, 1.0), x / scale)


@every_path
def test_configs_rebuild_the_path(path: AffineInterpolant):
    assert build(config_of(path)) == path


def test_a_number_and_a_tensor_of_times_give_the_same():
    x0, x1 = draws(5, 2)
    for path in PATHS:
        t = torch.full((5,), 0.3, dtype=torch.float64)
        torch.testing.assert_close(path.x1_from_v(x0, x1, 0.3), path.x1_from_v(x0, x1, t), rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(path.x0_from_v(x0, x1, 0.3), path.x0_from_v(x0, x1, t), rtol=1e-13, atol=1e-13)
        assert path.x1_from_v(x0.float(), x1.float(), 0.3).dtype == torch.float32


def test_times_per_token_are_taken_and_others_refused():
    path, (x0, x1) = Cosine(), draws(4, 5, 2)
    t = torch.rand(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x, v, _ = path.sample(x0, x1, t)
    torch.testing.assert_close(path.x1_from_v(v, x, t), x1)
    with pytest.raises(InputError, match="not a leading part of x's shape"):
        path.x1_from_v(v, x, t[:, :1])


def test_numbers_kept_from_inference_mode_serve_training():
    path = Scaled(Cosine(), 1.7)
    with torch.inference_mode():
        path.coefficients(0.4321)
    w = torch.ones(3, requires_grad=True)
    (w * path.coefficients(0.4321).a).sum().backward()
    assert w.grad is not None


def test_scaled_path_scales_states_and_keeps_half_log_snr():
    x0, x1 = draws(4, 2)
    t = torch.tensor(0.3, dtype=torch.float64)
    plain, scaled = Linear().sample(x0, x1, t), Scaled(Linear(), 3.0).sample(x0, x1, t)
    torch.testing.assert_close(scaled.x, 3 * plain.x)
    torch.testing.assert_close(scaled.v, 3 * plain.v)


def test_edm_preconditioning_agrees_with_the_conversion_of_f():
    x, f = draws(5, 3)
    for path in (Linear(), VE(), VPSDE(), Cosine()):
        edm, t = EDMPreconditioning(path, 0.7), torch.tensor(0.4, dtype=torch.float64)
        c, a = edm.at(t, x), path.alpha(t)
        torch.testing.assert_close(path.convert(f, x, t, "F", "x1", data_std=0.7), c.skip * x / a + c.out * f)
        torch.testing.assert_close(edm.network_input(x, t), c.into * x / a)
        torch.testing.assert_close(c.noise, (path.sigma(t) / a).log() / 4)


def test_what_cannot_be_is_said():
    x, v = draws(3, 2)

    class Uniform:
        gaussian = None

    with pytest.raises(InputError, match="the prediction kind is 'eps': choose one of v, x1"):
        Linear().convert(v, x, 0.5, "eps", "v")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="Uniform, which is not Gaussian"):
        Linear().convert(v, x, 0.5, "v", "score", Uniform())
    Linear().convert(v, x, 0.5, "v", "x1", Uniform())
    for make, sentence in (
        (lambda: Polynomial(0.0), "n is 0.0: the power"),
        (lambda: VPSDE(0.0, 1.0), "beta_min=0.0"),
        (lambda: SubVP(2.0, 1.0), "beta_min=2.0, beta_max=1.0"),
        (lambda: VE(1.0, 0.5), "sigma_min=1.0, sigma_max=0.5"),
        (lambda: Scaled(Linear(), -1.0), "scale is -1.0"),
        (lambda: Shifted(Linear(), 0.0), "shift is 0.0"),
        (lambda: EDMPreconditioning(data_std=0.0), "data_std is 0.0"),
    ):
        with pytest.raises(InputError, match=sentence):
            make()
