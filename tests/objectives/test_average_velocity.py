"""MeanFlow and SplitMeanFlow on real networks: dropout, half precision, compilation, rows that pay nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import advect
from advect import Batch, InputError, NetSpec
from advect.conditions import ClassLabel
from advect.derivatives import jvp
from advect.networks import MLP, DiT, Network, UNet
from advect.objectives import AdaptiveNorm, FlowMatching, MeanFlow, Networks, SplitMeanFlow, TargetGuidance
from advect.times import SortedPairs, Uniform

SHAPE = (3, 8, 8)
NETS = {
    "MLP": lambda spec: MLP(spec, hidden=(24, 24)),
    "UNet": lambda spec: UNet(spec, width=16, multipliers=(1, 2), blocks=1, attention=(1,)),
    "DiT": lambda spec: DiT(spec, depth=2, width=32, heads=2),
}
ALL_MOVE = SortedPairs(Uniform(), 0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(name: str, **options: Any) -> Network:
    torch.manual_seed(0)
    net = NETS[name](NetSpec(SHAPE, times=2)) if not options else DiT(NetSpec(SHAPE, times=2), **options)
    for p in net.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return net


def batch(n: int = 8) -> Batch:
    return Batch(torch.randn(n, *SHAPE, generator=seeded(1)), x0=torch.randn(n, *SHAPE, generator=seeded(2)))


def target_of(objective: MeanFlow, net: Any, given: Batch | None = None) -> Tensor:
    torch.manual_seed(5)
    loss = objective(Networks(net), batch() if given is None else given, seeded(3))
    assert loss.target is not None
    return loss.target


def _backends() -> list[Any]:
    """The quick one; the others take a minute together."""
    slow = [(name, backend) for name in NETS for backend in ("eager", "aot_eager")][1:]
    return [("MLP", "eager"), *(pytest.param(*case, marks=pytest.mark.slow) for case in slow)]


@pytest.mark.parametrize(("name", "backend"), _backends())
def test_a_compiled_network_has_the_same_targets_and_its_derivative_is_compiled_too(name: str, backend: str):
    torch._dynamo.reset()
    # in float64: a compiler lays pictures out its own way, which rounds otherwise
    net, given = made(name).double(), Batch(batch().x1.double(), x0=batch().x0.double())
    expected = target_of(MeanFlow(ALL_MOVE), net, given)
    compiled = torch.compile(net, backend=backend)
    torch._dynamo.utils.counters.clear()
    objective = MeanFlow(ALL_MOVE)
    for _ in range(2):
        torch.testing.assert_close(target_of(objective, compiled, given), expected, rtol=1e-9, atol=1e-10)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["frames"]["ok"] == 2  # the network and its derivative, once each
    torch._dynamo.reset()


@pytest.mark.parametrize("derivative", ["jvp", "differences"])
def test_half_precision_does_not_reach_the_derivative(derivative: Any):
    net, objective = made("DiT"), MeanFlow(ALL_MOVE, derivative)
    expected = target_of(objective, net)
    with torch.autocast("cpu", torch.bfloat16):
        given = target_of(objective, net)
    torch.testing.assert_close(given, expected, rtol=0, atol=0)


def test_both_derivatives_agree():
    for name in NETS:
        exact, differences = (target_of(MeanFlow(ALL_MOVE, d), made(name)) for d in ("jvp", "differences"))
        assert float((differences - exact).norm() / exact.norm()) < 0.003, name


@pytest.mark.parametrize("derivative", ["jvp", "differences"])
def test_the_derivative_has_the_dropout_masks_of_the_prediction(derivative: Any):
    """Checked against one call that gives both; with masks of its own, the derivative would be another."""
    net, pairs = made("DiT", depth=2, width=32, heads=2, dropout=0.4).train(), SortedPairs(Uniform(), 0.25)
    torch.manual_seed(5)
    loss = MeanFlow(pairs, derivative)(Networks(net), batch(), seeded(3))
    given = batch()
    r, t = pairs.sample(8, seeded(3))
    assert given.x0 is not None
    x, v = torch.lerp(given.x0, given.x1, r[:, None, None, None]), given.x1 - given.x0
    torch.manual_seed(5)
    u, change = jvp(net, (x, r, t), (v, torch.ones_like(r), torch.zeros_like(t)))
    expected = (v + (t - r)[:, None, None, None] * change).detach()
    assert loss.prediction is not None
    torch.testing.assert_close(loss.prediction, u)
    torch.testing.assert_close(loss.target, expected, rtol=0, atol=1e-4 if derivative == "jvp" else 0.02)
    other = (v + (t - r)[:, None, None, None] * jvp(net, (x, r, t), (v, torch.ones_like(r), 0 * t))[1]).detach()
    assert float((other - expected).abs().max()) > 0.05


def test_targets_of_splits_and_guidance_know_no_dropout_and_leave_the_mode_as_it_was():
    net = made("DiT", depth=2, width=32, heads=2, dropout=0.4).train()
    targets = []
    for seed in (5, 6):
        torch.manual_seed(seed)
        targets.append(SplitMeanFlow(velocity="data")(Networks(net), batch(), seeded(3)).target)
    assert torch.equal(*targets)
    assert all(module.training for module in net.modules())


def test_rows_with_equal_times_pay_no_derivative():
    rows: list[int] = []

    class Watched(MLP):
        def forward(self, x: Tensor, *times: Tensor, features: tuple[str, ...] = (), **cond: Tensor) -> Any:
            rows.append(len(x))
            return super().forward(x, *times, features=features, **cond)

    net = Watched(NetSpec(SHAPE, times=2), hidden=(8,))
    for pairs, expected in (
        (SortedPairs(), [2, 8]),
        (SortedPairs(boundary=0.25), [6, 8]),
        (SortedPairs(boundary=1.0), [8]),
        (ALL_MOVE, [8, 8]),
    ):
        rows.clear()
        MeanFlow(pairs)(net, batch(), seeded())
        assert rows == expected
    rows.clear()
    MeanFlow(SortedPairs(boundary=0.5, choice="random"))(net, batch(), seeded())
    r, t = SortedPairs(boundary=0.5, choice="random").sample(8, seeded())
    assert rows == [int((r < t).sum()), 8]


def test_all_at_the_boundary_is_flow_matching():
    net = made("MLP")
    mean = MeanFlow(SortedPairs(Uniform(), 1.0), norm=None)(net, batch(), seeded())
    r, _ = SortedPairs(Uniform(), 1.0).sample(8, seeded())
    plain = FlowMatching()
    given = batch()
    assert given.x0 is not None
    x = torch.lerp(given.x0, given.x1, r[:, None, None, None])
    expected = (net(x, r, r) - (given.x1 - given.x0)).square().mean()
    torch.testing.assert_close(mean.mean(), expected)
    assert mean.target is not None
    assert plain.needs == {}


def test_what_cannot_be_is_refused():
    for make, sentence in (
        (lambda: MeanFlow(derivative="backwards"), "derivative is 'backwards': choose jvp or differences"),
        (lambda: MeanFlow(step=0.0), r"step is 0\.0: a difference quotient needs a step above 0"),
        (lambda: MeanFlow(velocity="own"), "velocity is 'own': choose data or teacher"),
        (lambda: SortedPairs(boundary=1.5), r"boundary is 1\.5: the share of samples with r = t lies in \[0, 1\]"),
        (lambda: SortedPairs(choice="last"), "choice is 'last': choose first or random"),
        (lambda: TargetGuidance(kappa=1.0), r"kappa is 1\.0: it lies in \[0, 1\)"),
        (lambda: TargetGuidance(start=0.6, end=0.5), "needs 0 <= start <= end <= 1"),
        (lambda: MeanFlow(guidance=TargetGuidance())(made("MLP"), batch()), "needs a condition, and these data"),
        (lambda: MeanFlow()(MLP(NetSpec(SHAPE)), batch()), "the network was built for one time"),
    ):
        with pytest.raises(InputError, match=sentence):
            make()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(
    "objective", [MeanFlow(guidance=TargetGuidance()), SplitMeanFlow(velocity="data")], ids=["mean", "split"]
)
def test_a_training_gives_a_flow_map_that_samples_in_one_call(objective: Any, precision: Any):
    x = torch.randn(64, 2, generator=seeded())
    flow = advect.train(
        MLP,
        (x, torch.arange(64) % 2),
        objective=objective,
        drop=0.1,
        steps=3,
        batch_size=16,
        precision=precision,
        device="cpu",
    )
    run = advect.Run()
    assert flow.kind == "flow map"
    assert flow.sample(5, label=1, seed=0, run=run).shape == (5, 2)
    assert run.nfe == 1
    assert isinstance(flow.conditions.items[0], ClassLabel)


def test_a_teacher_starts_and_teaches_a_flow_map():
    x = torch.randn(64, 2, generator=seeded())
    options: dict[str, Any] = {"batch_size": 16, "device": "cpu", "ema": None}
    teacher = advect.train(MLP, x, steps=20, **options)
    student = advect.train(
        MLP, x, objective=SplitMeanFlow(), others={"teacher": teacher}, start_from=teacher, steps=1, lr=1e-12, **options
    )
    state, r, t = torch.randn(9, 2), torch.rand(9), torch.ones(9)
    torch.testing.assert_close(student.network(state, r, t), teacher.network(state, r), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="needs a network of the role 'teacher'"):
        advect.train(MLP, x, objective=SplitMeanFlow(), steps=1, **options)


@pytest.mark.parametrize("make", [MeanFlow, SplitMeanFlow])
def test_weights_that_drown_the_jumps_are_warned_of(make: Any, recwarn: pytest.WarningsRecorder):
    """Where v is a teacher's, samples with r = t have next to no error."""
    with pytest.warns(UserWarning, match=r"AdaptiveNorm\(1, 0\.01\) and v is a teacher's"):
        make(velocity="teacher", norm=AdaptiveNorm())
    recwarn.clear()
    for norm in (None, AdaptiveNorm(0.5), AdaptiveNorm(eps=10.0)):
        make(velocity="teacher", norm=norm)
    make(velocity="data", norm=AdaptiveNorm())
    assert not recwarn
