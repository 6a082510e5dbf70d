"""Hot paths on the meta device, where a tensor left on the CPU, or a look at a value (a host sync), raises."""

from __future__ import annotations

import pytest
import torch

from advect import Batch, NetSpec, Transport, guidance, interpolants, objectives, solvers, times
from advect.conditions import ClassLabel, Conditions, Vector
from advect.couplings import Paired
from advect.derivatives import divergence, draw_probe, hutchinson
from advect.distillation import KStep, Mixed, SegmentRegression, SquaredError
from advect.fields import Run
from advect.networks import MLP, DiT, Prediction, UNet
from advect.objectives import Networks
from advect.sources import Gaussian, GaussianMixture, Mixture, StudentT
from advect.training import PowerEMA
from advect.training.ema import Averages
from advect.training.meter import Meter
from advect.training.module import Trained

META = torch.device("meta")
CONDITIONS = (ClassLabel(4), Vector(3))


def on_meta(shape=(8, 2)):
    return torch.empty(shape, device=META)


def batch(**more):
    cond = {"label": torch.zeros(8, dtype=torch.long, device=META), "vector": on_meta((8, 3))}
    return Batch(on_meta(), cond, **more)


def net():
    with META:
        return MLP(NetSpec((2,), CONDITIONS), hidden=(8,))


def test_the_meta_device_tells():
    with pytest.raises(RuntimeError, match="not on the expected device"):
        on_meta() + torch.zeros(8, 2)
    with pytest.raises(RuntimeError, match="cannot be called on meta"):
        float(on_meta().sum())


@pytest.mark.parametrize("make", [lambda spec: UNet(spec, "XS"), lambda spec: DiT(spec, "XXS")], ids=["unet", "dit"])
def test_networks(make):
    with META:
        network = make(NetSpec((3, 16, 16), (ClassLabel(4),)))
    x = on_meta((2, 3, 16, 16))
    for t in (on_meta((2,)), on_meta(())):
        assert network(x, t, label=torch.zeros(2, dtype=torch.long, device=META)).shape == x.shape
        assert network(x, t).device == META


ODE = [solvers.RK4(), solvers.AB2(), solvers.DDIM(), solvers.DPMpp2S(), solvers.DPMpp3M(), solvers.UniPC(3)]
SDE = [solvers.EulerMaruyama(), solvers.StochasticHeun(), solvers.AncestralDDIM(), solvers.SDEDPMpp()]
PERTURBED = solvers.Perturbed(solvers.Heun(), 0.1)


@pytest.mark.parametrize("path", [interpolants.Linear(), interpolants.VPSDE()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("solver", [*ODE, solvers.EDMHeun(), *SDE, solvers.Overshooting(), PERTURBED], ids=str)
def test_solvers_with_random_numbers_from_the_cpu(solver, path):
    run = Run(torch.Generator())
    end = solver(lambda x, t: -x, on_meta(), 4, run, context=solvers.Context(path, Gaussian(2.0, 0.5)))
    assert end.device == META


@pytest.mark.parametrize(
    ("objective", "transport"),
    [
        (objectives.FlowMatching(times.LogitNormal(), objectives.MinSNR()), Transport()),
        (objectives.InterpolantLoss("b"), Transport(interpolant=interpolants.StochasticInterpolant())),
        (objectives.InterpolantLoss("s"), Transport(interpolant=interpolants.StochasticInterpolant())),
        (KStep(2, Mixed(SquaredError(), SquaredError())), Transport(coupling=Paired())),
        (SegmentRegression(Mixed(SquaredError(), SquaredError())), Transport(coupling=Paired())),
    ],
    ids=["weighted", "b", "s", "k-step", "segments"],
)
def test_a_step_of_training(objective, transport):
    network, conditions = net(), Conditions(CONDITIONS, {"label": 0.1, "label,vector": 0.2})
    trained = Trained({"model": network}, objective, transport)
    times_of_segments = {"r": on_meta((8,)), "t": on_meta((8,))}
    given = conditions.drop_from(batch(x0=on_meta(), extras=times_of_segments))
    outcome = trained(given, torch.Generator())
    outcome.loss.backward()
    meter = Meter(4, 10, META)
    meter.add(outcome, 1.0)
    meter.close_step(outcome.loss.detach())
    Averages(PowerEMA(), {"model": network}).update(3)


@pytest.mark.parametrize(
    "objective",
    [
        objectives.MeanFlow(guidance=objectives.TargetGuidance()),
        objectives.MeanFlow(derivative="differences"),
        objectives.SplitMeanFlow(velocity="data"),
    ],
    ids=["mean", "differences", "split"],
)
def test_a_step_of_average_velocities(objective):
    with META:
        network = MLP(NetSpec((2,), CONDITIONS, times=2), hidden=(8,))
    trained = Trained({"model": network}, objective, Transport())
    dropped = torch.zeros(8, dtype=torch.bool, device=META)
    outcome = trained(batch(x0=on_meta(), dropped=dropped), torch.Generator())
    outcome.loss.backward()
    assert outcome.logs["jump_error"].device == META


@pytest.mark.parametrize("kind", ["x1", "x0", "F", "epsilon"])
def test_predictions(kind):
    field = Prediction(net(), kind)
    assert field(on_meta(), 0.4, **batch().cond).device == META
    assert objectives.FlowMatching()(Networks(field), batch(), torch.Generator()).mean().device == META


RULES = [
    guidance.Interval(guidance.CFG(2.0), 0.1, 0.9),
    guidance.Rescale(guidance.CFG(2.0)),
    guidance.TokenRescale(guidance.CFG(2.0), 1),
    guidance.APG(2.0, radius=1.0),
    guidance.CFGZeroStar(2.0),
    guidance.RAAG(8.0, 2.0),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_guidance(rule):
    field = guidance.Guided(net(), rule, Conditions(CONDITIONS))
    for t in (0.5, on_meta((8,))):
        assert field(on_meta(), t, **batch().cond).device == META


def test_sources_and_divergences():
    with META:
        mixture = GaussianMixture(((0.0, 0.0), (1.0, 1.0)))
        both = Mixture((Gaussian(), mixture))
    for source in (Gaussian(2.0, 1.0), mixture, both, StudentT(5.0)):
        draw = torch.Generator()
        assert source.sample((8, 2), generator=draw, dtype=torch.float32, device=META).device == META
        assert source.log_prob(on_meta()).device == META
    x = on_meta()
    assert divergence(lambda y: -y * y, x)[1].device == META
    assert hutchinson(lambda y: -y * y, x, draw_probe(x, generator=torch.Generator()))[1].device == META


def test_stable_targets():
    transport, objective = Transport(StudentT(5.0)), objectives.FlowMatching(stable=4)
    nets = objectives.Networks(lambda x, t: -x, transport=transport)
    loss = objective(nets, Batch(on_meta()), torch.Generator())
    assert loss.mean().device == META
    assert loss.per_sample.shape == (4,)
