"""Laws over all solvers: exact on straight lines, orders, calls, recording, purity, gradients, refusals."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from advect import solvers
from advect.errors import InputError
from advect.fields import Run
from advect.interpolants import Cosine, Linear, StochasticInterpolant
from advect.oracles import reference_mixture
from advect.parts import build, config_of
from advect.solvers import (
    AB2,
    DDIM,
    RK4,
    AncestralDDIM,
    ChainSolver,
    ConstantNoise,
    Context,
    DormandPrince,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    EDMHeun,
    Euler,
    EulerLast,
    EulerMaruyama,
    FlowMapJumps,
    Heun,
    Midpoint,
    Overshooting,
    Perturbed,
    RectifiedSDE,
    ReverseNoise,
    SDEDPMpp,
    SinSquaredNoise,
    Solver,
    SourceNoise,
    StochasticHeun,
    UniPC,
)
from advect.sources import Gaussian, StudentT
from advect.times import CustomGrid, EDMGrid, TimeGrid

ODE = [  # solver, order, calls in 10 steps from t=0 to t=1
    (Euler(), 1, 10),
    (Midpoint(), 2, 20),
    (Heun(), 2, 20),
    (EulerLast(Heun()), 2, 19),
    (RK4(), 4, 40),
    (AB2(), 2, 10),
    (DDIM(), 1, 10),
    (DPMpp2S(), 2, 18),
    (DPMpp2M(), 2, 10),
    (DPMpp2M("2s"), 2, 11),
    (DPMpp3M("2s"), 3, 11),
    (DPMpp3M("2s", compat=True), 2, 11),
    (UniPC(1), 2, 10),
    (UniPC(2), 3, 10),
    (UniPC(2, "bh1"), 3, 10),
    (UniPC(3), 3, 10),  # the first step of its ramp, of local order 3, limits it in the end
    (UniPC(2, corrector=False), 2, 10),
    (EDMHeun(), 2, 18),
]
LOG_SNR = [DDIM(), DPMpp2S(), DPMpp2M(), DPMpp3M(), UniPC(), EDMHeun()]
SDE = [
    EulerMaruyama(SourceNoise(1.0)),
    StochasticHeun(SourceNoise(1.0)),
    StochasticHeun(SourceNoise(1.0), "noise_first"),
    AncestralDDIM(1.0),
    AncestralDDIM(0.3),
    RectifiedSDE(1.0),
    Overshooting(1.0),
    SDEDPMpp(1),
    SDEDPMpp(2),
]
OTHERS = [DormandPrince(1e-6, 1e-6), FlowMapJumps(), Perturbed(Heun(), 0.2), ChainSolver()]
ALL = [row[0] for row in ODE] + SDE + OTHERS
FIELD = reference_mixture().velocity()
START = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def run_of(seed=0):
    return Run(torch.Generator().manual_seed(seed))


def test_every_solver_is_in_the_tables():
    public = {getattr(solvers, name) for name in solvers.__all__}
    members = {c for c in public if isinstance(c, type) and issubclass(c, Solver) and not c.__abstractmethods__}
    assert members - {solvers.RungeKutta} == {type(solver) for solver in ALL}


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_a_config_rebuilds_it(solver):
    assert build(config_of(solver)) == solver


@pytest.mark.parametrize("grid", [TimeGrid(5), CustomGrid((0.0, 0.1, 0.5, 0.55, 1.0)), TimeGrid(5, 1.0, 0.0)], ids=str)
@pytest.mark.parametrize("solver", [*[row[0] for row in ODE], OTHERS[0]], ids=str)
def test_straight_lines_are_exact(solver, grid):
    """x1 - x0 constant along the straight path: v, D and x0_hat are constant, so no rule makes an error."""
    slope = torch.linspace(-1, 2, 14, dtype=torch.float64).view(7, 2)
    start, end = grid.times()[0], grid.times()[-1]
    out = solver(lambda x, t: slope, START, grid)
    assert (out - START - (end - start) * slope).abs().max() < 1e-12


@pytest.fixture(scope="module")
def truths():
    context = Context(Cosine())
    field = reference_mixture().velocity(Cosine())
    return field, context, RK4()(field, START, TimeGrid(2000, 0.9, 0.1))


@pytest.mark.parametrize(("solver", "order", "calls"), ODE, ids=lambda value: str(value))
def test_order_backwards_on_a_curved_path(solver, order, calls, truths):
    """From data to source on the cosine path; the forward orders stand among the facts."""
    field, context, truth = truths
    errors = [
        (solver(field, START, TimeGrid(n, 0.9, 0.1), context=context) - truth).square().mean().sqrt().item()
        for n in (80, 160, 320)
    ]
    measured = math.log2(errors[1] / errors[2])
    assert order - 0.15 < measured < order + 0.5


@pytest.mark.parametrize(("solver", "order", "calls"), ODE, ids=lambda value: str(value))
def test_calls_are_counted(solver, order, calls):
    run = Run()
    solver(FIELD, START, 10, run)
    assert run.calls == {"model": calls}
    assert run.rows == {"model": calls * 7}


@pytest.mark.parametrize("solver", SDE, ids=str)
def test_stochastic_calls_and_seeds(solver):
    one, two, three = run_of(1), run_of(1), run_of(2)
    first, again, other = (solver(FIELD, START, 10, run) for run in (one, two, three))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    heun = isinstance(solver, StochasticHeun)
    assert one.nfe == (19 if heun else 10)
    assert solver.stochastic


@pytest.mark.parametrize("solver", [s for s in ALL if not isinstance(s, (ChainSolver, FlowMapJumps))], ids=str)
def test_record_and_project_and_purity(solver):
    def project(x, t):
        seen.append(t)
        return x

    seen: list[float] = []
    plain = solver(FIELD, START, 6, run_of())
    trajectory = solver(FIELD, START, 6, run_of(), record=True)
    tolerance = 1e-5 if isinstance(solver, DormandPrince) else 0.0  # it stops at every node to record
    assert (trajectory.states[-1] - plain).abs().max() <= tolerance
    assert torch.equal(trajectory.states[0], START)
    assert trajectory.velocities.shape == (6, 7, 2)
    if not (isinstance(solver, Perturbed) or (isinstance(solver, StochasticHeun) and solver.variant == "noise_first")):
        for i in range(6):
            assert torch.equal(trajectory.velocities[i], FIELD(trajectory.states[i], trajectory.times[i]))
    solver(FIELD, START, 6, run_of(), project=project)
    assert seen == TimeGrid(6).times()[1:]


def test_a_corrector_does_not_undo_a_projection():
    """Held at 0 until t=1/2: the last step, from there to .6, begins at 0, as without a corrector."""

    def hold(x, t):
        return torch.zeros_like(x) if t <= 0.5 else x

    whole = UniPC()(FIELD, START, TimeGrid(6, 0.0, 0.6), project=hold)
    alone = UniPC(corrector=False)(FIELD, START, TimeGrid(6, 0.0, 0.6), project=hold)
    assert torch.equal(whole, alone)
    assert (whole - UniPC()(FIELD, START, TimeGrid(6, 0.0, 0.6))).abs().max() > 0.1


@pytest.mark.parametrize("solver", [row[0] for row in ODE], ids=str)
def test_a_break_starts_anew(solver):
    nodes = (0.05, 0.2, 0.3, 0.45, 0.6, 0.7, 0.95)
    whole = solver(FIELD, START, CustomGrid(nodes, restarts=(3,)))
    halves = solver(FIELD, solver(FIELD, START, CustomGrid(nodes[:4])), CustomGrid(nodes[3:]))
    assert torch.equal(whole, halves)


@pytest.mark.parametrize("solver", [row[0] for row in ODE] + [OTHERS[0]], ids=str)
def test_gradients_pass_through(solver):
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def end(w):
        return solver(lambda x, t: torch.sin(w * x) + t, START, 6).sum()

    (grad,) = torch.autograd.grad(end(weight), weight)
    with torch.no_grad():
        difference = (end(weight + 1e-5) - end(weight - 1e-5)) / 2e-5
    assert grad.item() == pytest.approx(difference.item(), rel=1e-6)


@pytest.mark.parametrize("solver", [row[0] for row in ODE] + [OTHERS[0]], ids=str)
def test_half_precision_states_are_carried_in_float32(solver):
    out = solver(lambda x, t: -x.bfloat16(), START.bfloat16(), 20)
    assert out.dtype == torch.float32
    assert (out / START.bfloat16().float() - math.exp(-1)).abs().max() < 0.05


@pytest.mark.parametrize("solver", LOG_SNR, ids=str)
def test_log_snr_solvers_refuse_other_paths(solver):
    with pytest.raises(InputError, match="works on affine paths"):
        solver(FIELD, START, 5, context=Context(StochasticInterpolant()))


@pytest.mark.parametrize("solver", SDE, ids=str)
def test_no_score_no_sde(solver):
    run = Run()
    with pytest.raises(InputError, match="needs a score, but the coupling Paired ties x0 to x1"):
        solver(FIELD, START, 5, run, context=Context(score_refusal="the coupling Paired ties x0 to x1"))
    with pytest.raises(InputError, match="affine paths"):
        solver(FIELD, START, 5, run, context=Context(StochasticInterpolant()))
    assert run.nfe == 0


@pytest.mark.parametrize("solver", SDE[3:], ids=str)
def test_renewal_goes_forwards_only(solver):
    with pytest.raises(InputError, match="goes from source to data"):
        solver(FIELD, START, TimeGrid(5, 0.9, 0.1), run_of())


def test_flow_map_jumps_ask_for_two_times():
    asked = []

    def half_life(x, r, t):
        asked.append((float(r), float(t)))
        return x * (torch.exp(-(t - r)) - 1) / (t - r)

    run = Run()
    out = FlowMapJumps()(half_life, START, [0.0, 0.3, 1.0], run)
    assert (out - START * math.exp(-1)).abs().max() < 1e-12
    assert asked == [(0.0, 0.3), (0.3, 1.0)]
    assert run.nfe == 2


GAUSS = {"mean": 0.4, "std": 0.6}  # the source
DATA_MEAN, DATA_STD = 1.2, 0.7


def gaussian_velocity(x, t):
    """v of N(.4, .6^2) -> N(1.2, .7^2) on the straight path."""
    m, variance = (1 - t) * 0.4 + t * DATA_MEAN, (1 - t) ** 2 * 0.36 + t**2 * DATA_STD**2
    return DATA_MEAN - 0.4 + (t * DATA_STD**2 - (1 - t) * 0.36) / variance * (x - m)


@pytest.mark.parametrize("solver", SDE, ids=str)
def test_sde_marginals_from_a_general_gaussian_source(solver):
    start = 0.4 + 0.6 * torch.randn(40_000, 1, generator=torch.Generator().manual_seed(0))
    out = solver(gaussian_velocity, start, TimeGrid(200), run_of(1), context=Context(Linear(), Gaussian(**GAUSS)))
    assert abs(out.mean() - DATA_MEAN) < 0.015
    assert abs(out.std() - DATA_STD) < 0.015


@pytest.mark.parametrize("solver", SDE[:3], ids=str)
def test_sde_marginals_backwards(solver):
    start = DATA_MEAN + DATA_STD * torch.randn(40_000, 1, generator=torch.Generator().manual_seed(0))
    grid = TimeGrid(300, 1.0, 0.0)
    out = solver(gaussian_velocity, start, grid, run_of(1), context=Context(Linear(), Gaussian(**GAUSS)))
    assert abs(out.mean() - 0.4) < 0.015
    assert abs(out.std() - 0.6) < 0.015


def exact_variance(solver, n, monkeypatch, low=0.1, high=0.9):
    """Variance of the solver's output without sampling error: a step is x' = M x + N z + c on a linear field."""
    value = {}
    monkeypatch.setattr("advect.solvers.sde.randn_like", lambda x, generator: torch.full_like(x, value["z"]))
    context = Context(Linear(), Gaussian(**GAUSS))
    variance = (1 - low) ** 2 * 0.36 + low**2 * DATA_STD**2
    times = TimeGrid(n, low, high).times()
    for r, t in itertools.pairwise(times):

        def step(x, z, r=r, t=t):
            value["z"] = z
            x = torch.tensor([[x]], dtype=torch.float64)
            return solver.step(gaussian_velocity, x, r, t, None, Run(), context)[0].item()

        origin = step(0.0, 0.0)
        variance = (step(1.0, 0.0) - origin) ** 2 * variance + (step(0.0, 1.0) - origin) ** 2
    return variance


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (EulerMaruyama(ConstantNoise(0.4)), 1),
        (StochasticHeun(ConstantNoise(0.4), "noise_first"), 1),
        (StochasticHeun(ConstantNoise(0.4)), 2),
        (StochasticHeun(SinSquaredNoise(1.0)), 2),
        (EulerMaruyama(ReverseNoise(1.0)), 1),
    ],
    ids=str,
)
def test_weak_orders(solver, order, monkeypatch):
    truth = 0.1**2 * 0.36 + 0.9**2 * DATA_STD**2
    errors = [abs(exact_variance(solver, n, monkeypatch) - truth) for n in (40, 80)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: AncestralDDIM(1.5), "eta is 1.5"),
        (lambda: UniPC(4), "order is 4"),
        (lambda: SDEDPMpp(3), "order is 3"),
        (lambda: Overshooting(-1.0), "scale is -1.0"),
        (lambda: RectifiedSDE(-1.0), "scale is -1.0"),
        (lambda: ConstantNoise(-1.0), "value is -1.0"),
        (lambda: SourceNoise(1.0, 0.5), "power is 0.5"),
        (lambda: DormandPrince(rtol=-1.0), "rtol=-1.0"),
        (lambda: DormandPrince(max_steps=0), "max_steps is 0"),
    ],
)
def test_bad_settings_are_named(make, match):
    with pytest.raises(InputError, match=match):
        make()


def test_a_level_that_diverges_names_the_time():
    with pytest.raises(InputError, match=r"diverges at t=0.*SourceNoise"):
        EulerMaruyama(ReverseNoise())(FIELD, START, 10, run_of())


def test_perturbed_adds_a_share_of_the_noise_once_a_step():
    """Around a field that stands still the draws are seen themselves: variance alpha^2 s^2 sum g(r)^2 over steps."""
    x0, grid = torch.zeros(200_000, 1, dtype=torch.float64), EDMGrid(6)
    times = grid.times(Linear())
    for source, scale in ((Gaussian(), 1.0), (Gaussian(2.0), 2.0), (StudentT(4), 1.0)):
        run = run_of()
        x = Perturbed(Heun(), 0.3)(lambda x, t: 0 * x, x0, grid, run, context=Context(Linear(), source))
        expected = 0.09 * scale**2 * sum((1 - t) ** 2 for t in times[:-1])
        assert x.var().item() == pytest.approx(expected, rel=0.02)
        assert (x**4).mean().item() / x.var().item() ** 2 == pytest.approx(3, abs=0.1)  # Gaussian whatever the source
        assert run.nfe == 12


def test_perturbed_by_nothing_is_the_solver_itself():
    out = Perturbed(EDMHeun(), 0.0)(FIELD, START, EDMGrid(8), run_of())
    assert torch.equal(out, EDMHeun()(FIELD, START, EDMGrid(8)))
    assert not Perturbed(Heun(), 0.0).stochastic
    assert Perturbed(Heun(), 0.1).stochastic
    assert Perturbed(FlowMapJumps(), 0.1).takes == "flow map"
    with pytest.raises(InputError, match="alpha is -1"):
        Perturbed(Heun(), -1)
    with pytest.raises(InputError, match="Perturbed works on affine paths"):
        Perturbed(Heun())(FIELD, START, 5, context=Context(StochasticInterpolant()))
    with pytest.raises(InputError, match="needs a score"):
        Perturbed(EulerMaruyama())(FIELD, START, 5, context=Context(score_refusal="there is none"))
