"""Facts 1 to 6 and 12 of MeanFlow and SplitMeanFlow (arXiv 2505.13447, 2507.16884): identities on a Gaussian.

x0 ~ N(0, 1), x1 ~ N(1.5, 0.16): m_t = 1.5 t, s_t^2 = (1-t)^2 + .16 t^2, x_t = m_t + (s_t / s_r)(x_r - m_r). The
formulas written here are the reference; the library is what is tested.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from advect import Batch
from advect.derivatives import jvp
from advect.errors import InputError
from advect.objectives import Loss, MeanFlow, Networks, SplitMeanFlow, TargetGuidance
from advect.solvers import Euler, FlowMapJumps
from advect.times import ClippedPairs, FiniteSet, SortedPairs, TimeGrid, TimePairs, Uniform

F64 = torch.float64
# (x, r, t), u, v, Du
A = (-0.8, 0.2, 0.9, 2.3411531561, 2.8069306931, -0.6653964814)
B = (1.2, 0.1, 0.6, 0.4873709369, 0.3563331690, 0.2620755357)
points = pytest.mark.parametrize("point", [A, B], ids="AB")


def m(t: Tensor) -> Tensor:
    return 1.5 * t


def s(t: Tensor) -> Tensor:
    return ((1 - t) ** 2 + 0.16 * t**2).sqrt()


def v(x: Tensor, t: Tensor) -> Tensor:
    return 1.5 + (0.16 * t - (1 - t)) / s(t) ** 2 * (x - m(t))


def u(x: Tensor, r: Tensor, t: Tensor) -> Tensor:
    """The exact average velocity, without a quotient of small differences: (s_t - s_r)/(t - r) in closed form."""
    slope = (-2 + 1.16 * (r + t)) / (s(t) + s(r))
    return 1.5 + slope / s(r) * (x - m(r))


def column(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same function of x (B, 1) and times (B,)."""
    return lambda x, *times: f(x[:, 0], *times)[:, None]


def tensor(*values: float) -> list[Tensor]:
    return [torch.tensor([value], dtype=F64) for value in values]


def at(r: float, t: float, boundary: float = 0.0) -> TimePairs:
    """These two times always."""
    return ClippedPairs(FiniteSet((r,)), FiniteSet((t,)), boundary)


def standing(x: Tensor) -> Batch:
    """x_r = x whatever r is; the pair's own velocity is 0, so that it would be seen if it were used."""
    return Batch(x, x0=x)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def consistency(objective: SplitMeanFlow, r: float, t: float) -> SplitMeanFlow:
    """The same loss without a sample at r = t, which its constructor rightly refuses."""
    objective.pairs = at(r, t)
    return objective


def total(x: Tensor, r: Tensor, t: Tensor, tangents: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return jvp(u, (x, r, t), tangents)[1]


@points
def test_fact_01_closed_forms_of_the_two_points(point: tuple[float, ...]):
    x, r, t = tensor(*point[:3])
    one, zero = torch.ones_like(r), torch.zeros_like(r)
    assert float(u(x, r, t)) == pytest.approx(point[3], abs=1e-10)
    assert float(v(x, r)) == pytest.approx(point[4], abs=1e-10)
    assert float(total(x, r, t, (v(x, r), one, zero))) == pytest.approx(point[5], abs=1e-10)
    moved = m(t) + s(t) / s(r) * (x - m(r))
    assert float(moved) == pytest.approx(float(x + (t - r) * u(x, r, t)), abs=1e-12)


@points
@pytest.mark.parametrize("derivative", ["jvp", "differences"])
def test_fact_01_the_target_is_the_exact_average_velocity(point: tuple[float, ...], derivative):
    x, r, t = point[:3]
    objective = MeanFlow(at(r, t), derivative, "teacher", None)
    nets = Networks(column(u), others={"teacher": column(v)})
    loss = objective(nets, standing(torch.tensor([[x]], dtype=F64)), seeded())
    assert loss.target is not None
    assert float(loss.target) == pytest.approx(point[3], abs=1e-10 if derivative == "jvp" else 2e-6)


def test_fact_01_at_ten_thousand_random_points():
    n = 10_000
    x = torch.randn(n, 1, generator=seeded(1), dtype=F64)
    nets = Networks(column(u), others={"teacher": column(v)})
    loss = MeanFlow(SortedPairs(Uniform(), 0.0), "jvp", "teacher", norm=None)(nets, standing(x), seeded())
    assert loss.prediction is not None
    assert loss.target is not None
    assert float((loss.prediction - loss.target).detach().abs().max()) < 1e-12
    assert float(loss.mean()) < 1e-24


@pytest.mark.parametrize(
    ("wrong", "errors"),
    [
        ("sign", (0.9316, -0.2621)),
        ("(v, 0, 0)", (-1.0367, -0.3029)),
        ("(v, 1, 1)", (-1.0023, 0.2531)),
        ("(v, 0, 1)", (-2.0390, -0.0498)),
        ("(0, 1, 0)", (1.5025, 0.1718)),
    ],
)
def test_fact_01_wrong_derivatives_are_far_off(wrong: str, errors: tuple[float, float]):
    """What the right target is compared with above: each of these misses by its own amount."""
    for point, error in zip((A, B), errors, strict=True):
        x, r, t = tensor(*point[:3])
        one, zero, speed = torch.ones_like(r), torch.zeros_like(r), v(x, r)
        tangents = {
            "sign": (-speed, -one, zero),
            "(v, 0, 0)": (speed, zero, zero),
            "(v, 1, 1)": (speed, one, one),
            "(v, 0, 1)": (speed, zero, one),
            "(0, 1, 0)": (zero, one, zero),
        }[wrong]
        target = speed + (t - r) * total(x, r, t, tangents)
        assert float(target - u(x, r, t)) == pytest.approx(error, abs=1e-4)


@points
@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_fact_02_split_identity(point: tuple[float, ...], share: float):
    x, r, t = point[:3]
    objective = consistency(SplitMeanFlow(split=FiniteSet((share,))), r, t)
    loss = objective(Networks(column(u)), standing(torch.tensor([[x]], dtype=F64)), seeded())
    assert loss.target is not None
    assert float(loss.target) == pytest.approx(float(u(*tensor(x, r, t))), abs=1e-12)


def _legs(point: tuple[float, ...], share: float) -> tuple[Tensor, ...]:
    x, r, t = tensor(*point[:3])
    middle = r + share * (t - r)
    return x, r, t, middle, u(x, r, middle)


@pytest.mark.parametrize(
    ("wrong", "errors"),
    [
        ("lambda swapped", (0.2327, -0.0618)),
        ("second leg at x_r", (0.3215, 0.0436)),
        ("without (s - r)", (-1.2093, -0.2472)),
        ("(t - r) for (s - r)", (-0.7501, -0.1018)),
    ],
)
def test_fact_02_wrong_forms_are_far_off(wrong: str, errors: tuple[float, float]):
    share = 0.3
    for point, error in zip((A, B), errors, strict=True):
        x, r, t, middle, first = _legs(point, share)
        reach = {"second leg at x_r": 0.0, "without (s - r)": 1.0, "(t - r) for (s - r)": t - r}.get(wrong, middle - r)
        second = u(x + reach * first, middle, t)
        weight = 1 - share if wrong == "lambda swapped" else share
        target = weight * first + (1 - weight) * second
        assert float(target - u(x, r, t)) == pytest.approx(error, abs=1e-4)


@points
def test_fact_02_the_library_composes_as_written_for_any_network(point: tuple[float, ...]):
    """For a map that is not exact all forms differ, so the target shows which one is computed; lambda is not 1/2."""

    def some(x: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return torch.sin(x + 2 * r) + x * t**2 - r * t

    share = 0.3
    x, r, t = tensor(*point[:3])
    middle = r + share * (t - r)
    first = some(x, r, middle)
    second = some(x + (middle - r) * first, middle, t)
    objective = consistency(SplitMeanFlow(split=FiniteSet((share,))), *point[1:3])
    loss = objective(Networks(column(some)), standing(x[:, None]), seeded())
    assert loss.target is not None
    assert float(loss.target) == pytest.approx(float(share * first + (1 - share) * second), abs=1e-12)
    wrong = [
        (1 - share) * first + share * second,
        share * first + (1 - share) * some(x, middle, t),
        share * first + (1 - share) * some(x + first, middle, t),
        share * first + (1 - share) * some(x + (t - r) * first, middle, t),
    ]
    assert min(abs(float(loss.target) - float(other)) for other in wrong) > 0.01


def _limit(f: Callable[..., Tensor], share: float, weight: float | None = None) -> float:
    """[u - target] / lambda with the first leg replaced by v."""
    x, r, t = tensor(*A[:3])
    middle, speed = r + share * (t - r), v(x, r)
    second = f(x + (middle - r) * speed, middle, t)
    w = share if weight is None else weight
    return float((f(x, r, t) - w * speed - (1 - w) * second) / share)


def test_fact_03_small_splits_give_the_residual_of_meanflow_for_any_network():
    def some(x: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return torch.sin(x + 2 * r) + x * t**2 - r * t

    x, r, t = A[:3]
    nets = Networks(column(some), others={"teacher": column(v)})
    loss = MeanFlow(at(r, t), "jvp", "teacher", None)(nets, standing(torch.tensor([[x]], dtype=F64)), seeded())
    assert loss.prediction is not None
    assert loss.target is not None
    residual = float(loss.prediction.detach() - loss.target)
    assert residual == pytest.approx(-8.08511, abs=1e-5)
    for share, value in ((0.1, -7.82324), (0.01, -8.06575), (0.001, -8.08325)):
        assert _limit(some, share) == pytest.approx(value, abs=1e-5)
    gaps = [abs(_limit(some, share) - residual) for share in (0.1, 0.01, 0.001)]
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.5)  # first order
    assert gaps[1] / gaps[2] == pytest.approx(10, rel=0.2)
    for share, value in ((0.1, -8.1e-3), (0.01, -7.0e-4), (0.001, -6.9e-5)):
        assert _limit(u, share) == pytest.approx(value, rel=0.02)
    for share, value in ((0.1, -36.6), (0.01, -398.0), (0.001, -4020.0)):
        assert _limit(some, share, weight=1 - share) == pytest.approx(value, rel=0.01)


def test_fact_04_both_losses_vanish_at_the_exact_map_with_the_marginal_velocity():
    x = torch.randn(4096, 1, generator=seeded(1), dtype=F64)
    nets = Networks(column(u), others={"teacher": column(v)})
    for objective in (MeanFlow(velocity="teacher", norm=None), SplitMeanFlow()):
        assert float(objective(nets, standing(x), seeded()).mean()) < 1e-20
    one_point = Networks(column(u))
    x1 = 1.5 + 0.4 * torch.randn(4096, 1, generator=seeded(2), dtype=F64)
    assert float(MeanFlow(norm=None)(one_point, x1, seeded()).mean()) > 0.1  # noise of x1 - x0 given x_r remains


def _regressed(sign: float) -> tuple[float, float]:
    """Intercept and slope of the one-point target on x_r at (.2, .9)."""
    n = 100_000
    x1 = 1.5 + 0.4 * torch.randn(n, 1, generator=seeded(3), dtype=F64)
    x0 = torch.randn(n, 1, generator=seeded(4), dtype=F64)
    loss = MeanFlow(at(0.2, 0.9), norm=None)(Networks(column(u)), Batch(x1, x0=x0), seeded())
    assert loss.target is not None
    x, speed = 0.8 * x0 + 0.2 * x1, x1 - x0
    y = speed + sign * (loss.target - speed)
    x, y = x[:, 0], y[:, 0]
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    return float(y.mean() - slope * x.mean()), slope


def test_fact_04_one_point_velocities_give_the_exact_map_on_average():
    intercept, slope = _regressed(1.0)
    assert intercept == pytest.approx(1.7294, rel=0.02)
    assert slope == pytest.approx(-0.76469, rel=0.02)
    wrong = _regressed(-1.0)
    assert wrong[0] == pytest.approx(1.99, rel=0.02)
    assert wrong[1] == pytest.approx(-1.62, rel=0.02)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_fact_05_a_constant_has_no_loss_but_where_r_is_t(value: float):
    def constant(x: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x, value)

    x = torch.randn(256, 1, generator=seeded(1), dtype=F64)
    nets = Networks(constant, others={"teacher": column(v)})
    alone = consistency(SplitMeanFlow(), 0.1, 0.7)
    assert float(alone(nets, standing(x), seeded()).mean()) < 1e-20
    with_data: Loss = SplitMeanFlow()(nets, standing(x), seeded())
    assert float(with_data.mean()) > 0.1
    assert float(with_data.logs["jump_error"]) < 1e-20  # the two are told apart in the log
    assert float(with_data.logs["velocity_error"]) > 0.2


def test_fact_05_no_share_at_the_boundary_is_refused_and_a_small_one_warned_of():
    with pytest.raises(InputError, match="boundary is 0, so no sample has r = t"):
        SplitMeanFlow(SortedPairs(Uniform(), 0.0))
    with pytest.warns(UserWarning, match=r"boundary is 0\.25: .*it may collapse"):
        SplitMeanFlow(SortedPairs(Uniform(), 0.25))


@pytest.mark.parametrize("guidance", [None, TargetGuidance(2.0, 0.3)], ids=["plain", "guided"])
def test_fact_06_where_r_is_t_the_target_is_the_velocity_to_the_last_bit(guidance: TargetGuidance | None):
    def wild(x: Tensor, r: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.sin(50 * x * r[:, None]) + (0.0 if label is None else label[:, None])

    x1 = torch.randn(64, 3, generator=seeded(1))
    x0 = torch.randn(64, 3, generator=seeded(3))
    batch = Batch(x1, {"label": torch.rand(64, generator=seeded(2))}, x0=x0)
    objective = MeanFlow(guidance=guidance)
    loss = objective(Networks(wild), batch, seeded(5))
    r, t = objective.pairs.sample(64, seeded(5))
    assert loss.target is not None
    same = r == t
    assert int(same.sum()) == 48
    speed = x1 - x0
    if guidance is not None:
        x = torch.lerp(x0, x1, r[:, None])
        null, own = wild(x, r, r), wild(x, r, r, **batch.cond)
        speed = guidance.omega * speed + (1 - guidance.omega - guidance.kappa) * null + guidance.kappa * own
    assert torch.equal(loss.target[same], speed[same])
    assert not torch.equal(loss.target[~same], speed[~same])


def test_fact_12_jumps_of_the_exact_map_compose_and_euler_steps_do_not():
    x = torch.randn(500, 1, generator=seeded(), dtype=F64)

    def jump(x: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return column(u)(x, r.expand(len(x)), t.expand(len(x)))

    ends = [FlowMapJumps()(jump, x, TimeGrid(k)) for k in (1, 2, 7)]
    exact = 1.5 + 0.4 * x
    for end in ends:
        torch.testing.assert_close(end, exact, rtol=0, atol=1e-12)
    steps = Euler()(lambda x, t: jump(x, t, t), x, TimeGrid(7))
    assert float((steps - exact).abs().max()) > 0.05
