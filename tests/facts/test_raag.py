"""Facts of RAAG (arXiv 2508.03442): the rule itself, against what is easily mistaken for it.

Where alpha = 12, the ratios lie between .05 and .3: at a ratio of 1 every rule returns v_c to 1e-4, and could not be
told from another. The formulas written here are the reference; the library is what is tested.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import Run
from advect.guidance import CFG, RAAG, CFGZeroStar, guidance_ratio

F64 = torch.float64
W, ALPHA = 18.0, 12.0


def _pair(seed: int = 0, shape: tuple[int, ...] = (6, 3, 4, 4)) -> tuple[Tensor, Tensor]:
    """v_c = v_u + .1 noise, each sample with a gap of its own."""
    g = torch.Generator().manual_seed(seed)
    v_u = torch.randn(shape, generator=g, dtype=F64)
    gap = torch.linspace(0.05, 0.3, shape[0], dtype=F64).reshape(-1, *(1,) * (len(shape) - 1))
    return v_u + gap * torch.randn(shape, generator=g, dtype=F64), v_u


def _apply(rule, v_c: Tensor, v_u: Tensor, run: Run | None = None) -> Tensor:
    return rule(v_c, v_u, None, Run() if run is None else run)


def _scale(rule, v_c: Tensor, v_u: Tensor) -> Tensor:
    run = Run()
    _apply(rule, v_c, v_u, run)
    return run.log["guidance scale"][0]


def _with(v_c: Tensor, v_u: Tensor, w: Tensor) -> Tensor:
    return v_u + w.reshape(-1, *(1,) * (v_u.ndim - 1)) * (v_c - v_u)


def _error(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def test_fact_01_the_ends_of_both_settings():
    v_c, v_u = _pair()
    cfg = _apply(CFG(W), v_c, v_u)
    assert _error(_apply(RAAG(W, 0.0), v_c, v_u), cfg) / float(cfg.abs().max()) < 1e-12
    assert torch.equal(_apply(RAAG(1.0, ALPHA), v_c, v_u), v_c)
    assert _error(_apply(RAAG(W, 1e4), v_c, v_u), v_c) < 1e-6
    # without "1 +" a large alpha leads to the null, and alpha = 0 does not tell
    rho = guidance_ratio(v_c, v_u)
    assert float(rho.min()) >= 0.01
    assert _error(_with(v_c, v_u, W * torch.exp(-1e4 * rho)), v_c) > 0.1
    # a guidance scale of the user's that leaks in as w_max
    assert _error(_apply(RAAG(7.0, 0.0), v_c, v_u), cfg) > 0.1


def test_fact_02_equal_velocities_a_null_of_zero_and_both():
    _, v = _pair()
    zero = torch.zeros_like(v)
    for v_c, v_u, out, scale in ((v, v, v, W), (v, zero, v, 1.0), (zero, zero, zero, W)):
        run = Run()
        assert torch.equal(_apply(RAAG(W, ALPHA), v_c, v_u, run), out)
        assert (run.log["guidance scale"][0] == scale).all()
        assert run.log["guidance ratio"][0].isfinite().all()
    assert float(guidance_ratio(v, zero).min()) > 1e7


@pytest.mark.parametrize("k", [1e-2, 0.3, 1e2, -1.0, -1e2])
def test_fact_03_scaling_both_velocities_scales_the_result(k: float):
    v_c, v_u = _pair()
    out, scaled = _apply(RAAG(W, ALPHA), v_c, v_u), _apply(RAAG(W, ALPHA), k * v_c, k * v_u)
    assert _error(scaled, k * out) / float((k * out).abs().max()) < 1e-7
    # not by taking signs into the ratio: |v_c| - |v_u| over |v_u| would do as well here, but is another number
    wrong = (v_c.flatten(1).norm(dim=1) - v_u.flatten(1).norm(dim=1)) / v_u.flatten(1).norm(dim=1)
    assert float((wrong - guidance_ratio(v_c, v_u)).abs().max()) > 0.03


def test_fact_03_far_below_the_epsilon_shows():
    """A ratio falls by 1e-8 / |v_u|, whatever the vectors: with k = 1e-6 and |v_u| about 7, by a share of 1.4e-3."""
    v_c, v_u = _pair()
    norm = v_u.flatten(1).norm(dim=1)
    share = guidance_ratio(1e-6 * v_c, 1e-6 * v_u) / guidance_ratio(v_c, v_u)
    assert _error(share, (norm + 1e-8) / (norm + 1e-8 / 1e-6)) < 1e-12
    out, tiny = _apply(RAAG(W, ALPHA), v_c, v_u), _apply(RAAG(W, ALPHA), 1e-6 * v_c, 1e-6 * v_u)
    relative = _error(tiny, 1e-6 * out) / float((1e-6 * out).abs().max())
    assert 1e-6 < relative < 1e-2


def _along(rho: Tensor, norm: float = 2.0) -> tuple[Tensor, Tensor]:
    """Pairs (n, 2) with given ratios, gap across the null."""
    v_u = torch.zeros(len(rho), 2, dtype=F64)
    v_u[:, 0] = norm
    v_c = v_u.clone()
    v_c[:, 1] = norm * rho
    return v_c, v_u


def test_fact_04_the_push_is_bounded_and_largest_at_one_over_alpha():
    rho = torch.linspace(0.0, 2.0, 200_001, dtype=F64)
    v_c, v_u = _along(rho)
    push = (_apply(RAAG(W, ALPHA), v_c, v_u) - v_c).norm(dim=1) / v_u.norm(dim=1)
    bound = (W - 1) / (math.e * ALPHA)
    assert bound == pytest.approx(0.521163, abs=1e-6)
    assert float(push.max()) == pytest.approx(bound, abs=1e-6)
    assert float(rho[push.argmax()]) == pytest.approx(1 / ALPHA, abs=1e-4)
    assert float(push[10_000]) == pytest.approx(0.51203, abs=1e-5)  # ratio .1
    assert float(((_apply(CFG(W), v_c, v_u) - v_c).norm(dim=1) / v_u.norm(dim=1)).max()) > 30
    # the ratio of squared norms, as one secondary source has it
    squared = (W - 1) * torch.exp(-ALPHA * rho**2) * rho
    assert float(squared.max()) == pytest.approx(2.1047, abs=1e-4)
    assert float(rho[squared.argmax()]) == pytest.approx(0.2041, abs=1e-4)
    assert float(squared[10_000]) == pytest.approx(1.50776, abs=1e-5)


def test_fact_05_the_scale_falls_strictly_and_stays_between_1_and_w_max():
    rho = torch.linspace(0.0, 2.0, 2001, dtype=F64)
    w = _scale(RAAG(W, ALPHA), *_along(rho))
    assert (w.diff() < 0).all()
    assert float(w.max()) == W
    assert float(w.min()) >= 1.0
    far = _scale(RAAG(W, ALPHA), *(v.float() for v in _along(torch.tensor([1.8, 5.0], dtype=F64))))
    assert (far == 1.0).all()  # by rounding


def test_fact_05_the_values_of_the_published_setting():
    w = _scale(RAAG(), *_along(torch.tensor([0.05, 0.1, 0.2, 0.5], dtype=F64)))
    assert w.tolist() == pytest.approx([10.3, 6.1, 2.5, 1.04], abs=0.06)


def test_fact_07_no_sample_depends_on_its_batch():
    v_c, v_u = _pair()
    other_c, other_u = _pair(1)
    rule = RAAG(W, ALPHA)
    for i in range(len(v_c)):
        mixed_c, mixed_u = 5.0 * other_c, other_u.clone()
        mixed_c[i], mixed_u[i] = v_c[i], v_u[i]
        assert torch.equal(_apply(rule, mixed_c, mixed_u)[i], _apply(rule, v_c, v_u)[i])
        released = RAAG(W, ALPHA, "batch")
        assert _error(_apply(released, mixed_c, mixed_u)[i], _apply(released, v_c, v_u)[i]) > 1e-3


def test_fact_07_one_ratio_for_the_batch_as_released():
    v_u = torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=F64)
    v_c = v_u + torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=F64)
    assert guidance_ratio(v_c, v_u).tolist() == pytest.approx([1.0, 0.0], abs=1e-7)
    shared = guidance_ratio(v_c, v_u, "batch")
    assert shared.tolist() == pytest.approx([1 / math.sqrt(10)] * 2, abs=1e-8)
    assert abs(float(shared[0]) - 0.5) > 0.1  # the mean of the ratios, as one port takes it


def test_fact_07_one_sample_agrees_in_both_scopes_and_with_the_released_formula():
    v_c, v_u = _pair(shape=(1, 3, 4, 4))
    rho = (v_c - v_u).norm() / v_u.norm()
    released = v_u + (1 + (W - 1) * torch.exp(-ALPHA * rho)) * (v_c - v_u)
    for scope in ("sample", "batch"):
        assert _error(_apply(RAAG(W, ALPHA, scope), v_c, v_u), released) < 1e-6


def test_fact_10_parallel_velocities_tell_the_rules_apart():
    _, v_u = _pair()
    v_c = 1.1 * v_u
    for w in (1.5, 7.0):
        assert _error(_apply(CFGZeroStar(w), v_c, v_u), v_c) < 1e-6
    assert _scale(RAAG(W, ALPHA), v_c, v_u).tolist() == pytest.approx([6.1203] * 6, abs=1e-4)
    assert _error(_apply(RAAG(W, ALPHA), v_c, v_u), 1.61203 * v_u) < 1e-4


def test_fact_11_rotations_of_a_sample_commute_with_the_rule():
    v_c, v_u = _pair()
    size = v_u[0].numel()
    rotation = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(2), dtype=F64)).Q

    def rotate(v: Tensor) -> Tensor:
        return (v.flatten(1) @ rotation.T).reshape(v.shape)

    rule = RAAG(W, ALPHA)
    assert _error(_apply(rule, rotate(v_c), rotate(v_u)), rotate(_apply(rule, v_c, v_u))) < 1e-10

    def by(dims: tuple[int, ...]):
        def rule(v_c: Tensor, v_u: Tensor) -> Tensor:
            rho = (v_c - v_u).norm(dim=dims, keepdim=True) / v_u.norm(dim=dims, keepdim=True)
            return v_u + (1 + (W - 1) * torch.exp(-ALPHA * rho)) * (v_c - v_u)

        return rule

    for wrong in (by((2, 3)), by((1,))):  # per channel, per pixel
        assert _error(wrong(rotate(v_c), rotate(v_u)), rotate(wrong(v_c, v_u))) > 0.1


def test_half_precision_is_measured_in_single():
    v_c, v_u = (v.half() for v in _pair(shape=(2, 3, 64, 64)))
    big = 800.0  # the norm is then above 65504, the largest half
    ratio = guidance_ratio(big * v_c, big * v_u)
    assert ratio.dtype == torch.float32
    assert torch.allclose(ratio, guidance_ratio(v_c.float(), v_u.float()), rtol=1e-2)
    assert not torch.linalg.vector_norm((big * v_u).flatten(1), dim=1, dtype=torch.float16).isfinite().any()
    assert _apply(RAAG(), v_c, v_u).dtype == torch.float16


def test_refusals():
    for make, match in (
        (lambda: RAAG(0.5), r"w_max is 0\.5"),
        (lambda: RAAG(math.inf), "w_max is inf"),
        (lambda: RAAG(18.0, -1.0), r"alpha is -1\.0"),
        (lambda: RAAG(18.0, math.nan), "alpha is nan"),
        (lambda: RAAG(scope="token"), "choose from sample, batch"),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(InputError, match=match):
            make()
