"""`advect.train`: what it does with what a user gives it, and that nothing but the numbers decides the numbers."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import advect
from advect import Batch, Transport
from advect.codecs import Codec, Standardize
from advect.conditions import Conditions
from advect.couplings import Coupling, Independent, Paired, Pairs
from advect.data.tensors import Tensors
from advect.errors import InputError
from advect.networks import MLP, Prediction
from advect.objectives import Loss, Networks, Objective
from advect.sources import NormAligned
from advect.training import ConstantEMA, Group, Monitor, PowerEMA, TrainSettings
from advect.training.feed import Feed, Order
from advect.training.prepare import prepare

CPU: dict[str, Any] = {"device": "cpu", "log_every": 10, "warmup": 0}


class Affine(nn.Module):
    """v = A [x, t] + b: enough for a loss, and quick."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2, dtype=dtype)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.linear(torch.cat([x, t.expand(len(x))[:, None]], 1))


def points(n: int = 64) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0)) + torch.tensor([1.0, -2.0])


def state(flow: advect.Flow) -> Tensor:
    return torch.cat([value.flatten() for value in flow.network.state_dict().values()])  # type: ignore[union-attr]


def trained(**options: Any) -> Tensor:
    return state(advect.train(Affine(), points(), **{**CPU, "steps": 12, "batch_size": 16, **options}))


def test_ten_lines_learn_a_distribution() -> None:
    x = points(2000) * torch.tensor([0.5, 0.1]) + torch.tensor([3.0, 1.0])
    flow = advect.train(MLP, x, codec=Standardize(), steps=400, batch_size=256, device="cpu")
    samples = flow.sample(2000, seed=0)
    torch.testing.assert_close(samples.mean(0), x.mean(0), atol=0.06, rtol=0.0)
    torch.testing.assert_close(samples.std(0), x.std(0), rtol=0.15, atol=0.0)


def test_memory_needs_torch_and_numpy_alone() -> None:
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("accelerate", "safetensors", "scipy", "PIL", "ot", "matplotlib", "jsonargparse"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import torch, advect
flow = advect.train(advect.networks.MLP, torch.randn(50, 2), steps=3, batch_size=8, device="cpu")
assert flow.sample(4, seed=0).shape == (4, 2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_same_seed_same_numbers_and_another_seed_others() -> None:
    assert torch.equal(trained(seed=1), trained(seed=1))
    assert not torch.equal(trained(seed=1), trained(seed=2))
    assert not torch.equal(trained(seed=1), trained(seed=1, stage="second"))


def test_the_global_generator_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    advect.train(MLP, points(), steps=3, batch_size=8, **CPU)
    assert torch.equal(before, torch.get_rng_state())


@dataclass(frozen=True)
class Shuffled(Coupling):
    """A coupling that draws: it pairs at random, so that the order of draws would show."""

    def __call__(
        self,
        x0: Tensor,
        x1: Tensor,
        cond: Any = None,
        rows: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Pairs:
        return Pairs(i0=torch.randperm(len(x0), generator=generator))


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_no_number(workers: int) -> None:
    transport = Transport(coupling=Shuffled())
    assert torch.equal(trained(transport=transport, prefetch=0), trained(transport=transport, prefetch=workers))


def test_one_thread_alone_asks_for_data_while_training(tmp_path: Any) -> None:
    """Data that are computed on the way need not be thread-safe; sample grids look at held-out data read before."""
    asked: list[tuple[str, str]] = []

    @dataclass(frozen=True)
    class Computed(advect.data.Data):
        @property
        def shape(self) -> tuple[int, ...]:
            return (2,)

        def size(self, split: str = "train") -> int:
            return 64 if split != "test" else 0

        def batch(self, split: str, index: Tensor, generator: torch.Generator | None = None) -> Batch:
            asked.append((threading.current_thread().name, split))
            return Batch(points()[index])

    options = {"steps": 6, "batch_size": 8, "sample_every": 2, "sample_count": 4, "tensorboard": False}
    advect.train(Affine(), Computed(), folder=tmp_path, **{**CPU, **options})
    assert len(list((tmp_path / "samples").iterdir())) == 3
    begun = next(i for i, (name, _) in enumerate(asked) if name.startswith("advect-feed"))
    assert ("MainThread", "validation") in asked[:begun]
    assert len({name for name, _ in asked[begun:]}) == 1


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    @dataclass(frozen=True)
    class Broken(Shuffled):
        def __call__(self, *args: Any, **kwargs: Any) -> Pairs:
            raise InputError("no pairing today")

    with pytest.raises(InputError, match="no pairing today"):
        trained(transport=Transport(coupling=Broken()), prefetch=2)


def test_accumulation_is_shards_by_another_name() -> None:
    assert torch.equal(trained(accumulate=4), trained(shards=4))


class Fixed(Objective):
    """Regress the velocity at t = 1/2 from x0 = 0: no draw at all, so that batches alone decide."""

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        t = torch.full((len(batch),), 0.5, dtype=batch.x1.dtype)
        return Loss(nets.model(batch.x1 / 2, t) - batch.x1, t=t, weight=batch.weight)


def test_shards_give_the_gradient_of_the_whole_batch() -> None:
    options = {"objective": Fixed(), "precision": "float64", "ema": None}
    torch.testing.assert_close(trained(shards=8, **options), trained(shards=1, **options), rtol=1e-12, atol=1e-12)


def test_one_step_of_each_rule_is_the_rule() -> None:
    x = points(16).double()
    net = Affine(torch.float64)
    residual = net(x / 2, torch.full((16,), 0.5, dtype=torch.float64)) - x
    gradient = torch.autograd.grad(residual.square().mean(), net.linear.weight)[0]
    options = {"objective": Fixed(), "steps": 1, "batch_size": 16, "ema": None, "schedule": "constant", "clip": None}
    run = {**CPU, **options, "precision": "float64", "lr": 0.1}

    def weight(**more: Any) -> Tensor:
        return advect.train(Affine(torch.float64), Tensors(x), **{**run, **more}).network.linear.weight  # type: ignore

    torch.testing.assert_close(weight(optimizer="sgd"), -0.1 * gradient, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(weight(optimizer="sgd", clip=1e6), -0.1 * gradient, rtol=1e-6, atol=1e-7)
    adam = -0.1 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(weight(optimizer="adam"), adam, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weight(optimizer="adamw", weight_decay=0.5), adam, rtol=1e-5, atol=1e-6)  # from zero
    norm = torch.autograd.grad(
        (net(x / 2, torch.full((16,), 0.5, dtype=torch.float64)) - x).square().mean(), list(net.parameters())
    )
    total = torch.cat([g.flatten() for g in norm]).norm()
    torch.testing.assert_close(weight(optimizer="sgd", clip=0.01), -0.1 * gradient * 0.01 / total, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("schedule", "last"), [("constant", 1.0), ("cosine", math.sin(math.pi / 200) ** 2)])
def test_rates(schedule: Any, last: float) -> None:
    settings = TrainSettings(steps=100, warmup=10, schedule=schedule, lr=2.0)
    assert settings.rate(0, 2.0) == pytest.approx(0.2)
    assert settings.rate(99, 2.0) == pytest.approx(2.0 * last, rel=1e-6)


def test_the_order_is_a_permutation_per_epoch() -> None:
    order = Order(7, (0, "train"))
    numbers = torch.cat([order(start, 4) for start in range(0, 28, 4)])
    for epoch in range(4):
        assert sorted(numbers[7 * epoch : 7 * epoch + 7].tolist()) == list(range(7))
    assert not torch.equal(numbers[:7], numbers[7:14])
    assert torch.equal(order(9, 13), numbers[9:22])  # any place can be asked for at any time


def test_labels_are_dropped_as_often_as_asked() -> None:
    labels = torch.arange(1000) % 5
    seen: list[Tensor] = []

    class Look(Fixed):
        def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
            seen.append(batch.cond["label"])
            return Loss(nets.model(batch.x1, torch.full((len(batch),), 0.5), **batch.cond) - batch.x1)

    flow = advect.train(
        MLP, (torch.randn(1000, 2), labels), objective=Look(), drop=0.3, steps=20, batch_size=250, **CPU
    )
    share = (torch.cat(seen) == 5).float().mean()
    assert abs(share - 0.3) < 0.03
    assert flow.conditions.drop == {"label": 0.3}
    assert flow.sample(3, label=2, seed=0).shape == (3, 2)


def test_conditions_that_are_not_asked_for_stay_with_the_data() -> None:
    data = (points(), torch.zeros(64, dtype=torch.long))
    flow = advect.train(Affine(), data, conditions=Conditions(), steps=2, batch_size=8, **CPU)
    assert flow.conditions.items == ()
    with pytest.raises(InputError, match=r"cannot be called as f\(x, t, label\)"):
        advect.train(Affine(), data, steps=2, batch_size=8, **CPU)


def test_data_in_pairs_have_no_score() -> None:
    data = Tensors(points(), x0=points() - 1)
    flow = advect.train(Affine(), data, steps=2, batch_size=8, **CPU)
    assert isinstance(flow.transport.coupling, Paired)
    assert flow.score_refusal is not None
    with pytest.raises(InputError, match=r"the coupling is Independent.*coupling=Paired"):
        advect.train(Affine(), data, transport=Transport(coupling=Independent()), steps=2, **CPU)


class Elsewhere(Codec):
    """A codec whose weights lie on another device (here meta, which refuses data of the CPU)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2, device="meta"))
        self.calls = 0

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        assert (x / self.scale).is_meta
        self.calls += 1
        return torch.ones(x.shape)

    def decode(self, z: Tensor) -> Tensor:
        return z


def test_data_are_moved_to_the_codec_wherever_it_is_tried_before_the_training() -> None:
    """A codec with weights may come from a GPU, and the data from the host."""
    codec, x = Elsewhere(), points(40)
    prepare(Affine(), Tensors(x, x0=x), codec=codec, transport=Transport(NormAligned(), Paired()))
    assert codec.calls == 6, "the fit of the source, a call of the network, a loss and its rehearsal (both ends each)"


def test_a_codec_is_fitted_once() -> None:
    codec = Standardize()
    advect.train(Affine(), points(500), codec=codec, steps=1, batch_size=8, **CPU)
    torch.testing.assert_close(codec.shift, points(500).mean(0), rtol=1e-5, atol=1e-5)
    before = codec.shift.clone()
    advect.train(Affine(), points(500) + 7, codec=codec, steps=1, batch_size=8, **CPU)
    assert torch.equal(codec.shift, before)


class TwoRoles(Objective):
    """A second network that learns, a teacher that must not, and a parameter of the objective."""

    needs: ClassVar[dict[str, str]] = {"score": "trained field", "teacher": "field"}

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))
        self.turns: list[str] = []

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        self.turns.append(nets.turn)
        t = torch.full((len(batch),), 0.5)
        goal = nets["teacher"](batch.x1, t) + batch.x1
        return Loss(nets.model(batch.x1, t) + nets["score"](batch.x1, t) + self.bias - goal)


def test_roles_take_turns_and_a_teacher_stays() -> None:
    objective, model, score, teacher = TwoRoles(), Affine(), Affine(), Affine()
    nn.init.ones_(teacher.linear.weight)
    steps: list[tuple[bool, bool, bool]] = []
    last = [torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2)]

    class Watch(Monitor):
        def step(self, done: int) -> None:
            now = [model.linear.weight, score.linear.weight, objective.bias]
            steps.append(tuple(not torch.equal(a, b) for a, b in zip(now, last, strict=True)))  # type: ignore
            last[:] = [value.detach().clone() for value in now]

    groups = {"model": Group(every=2), "score": Group(every=2, offset=1, lr=0.5), "objective": Group(every=3, offset=2)}
    flow = advect.train(
        model,
        points(),
        objective=objective,
        others={"score": score, "teacher": teacher},
        groups=groups,
        steps=6,
        batch_size=16,
        monitor=Watch(),
        **CPU,
    )
    assert [s[0] for s in steps] == [True, False] * 3
    assert [s[1] for s in steps] == [False, True] * 3
    assert [s[2] for s in steps] == [False, False, True] * 2
    assert objective.turns == ["model", "score"] * 3
    assert torch.equal(teacher.linear.weight, torch.ones(2, 3))
    assert teacher.linear.weight.grad is None
    assert teacher.linear.weight.requires_grad  # as it was
    assert set(flow.others) == {"score"}  # what was not trained is not of the result


class Distil(Objective):
    """Learn what a teacher says."""

    needs: ClassVar[dict[str, str]] = {"teacher": "field"}

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        t = torch.full((len(batch),), 0.5)
        with torch.no_grad():
            goal = nets["teacher"](batch.x1, t, **batch.cond)
        return Loss(nets.model(batch.x1, t, **batch.cond) - goal)


def test_a_teacher_brings_its_guidance(tmp_path: Any) -> None:
    data = (points(), torch.arange(64) % 3)
    options = {"steps": 300, "batch_size": 64, "lr": 1e-2, **CPU}
    teacher = advect.train(MLP, data, drop=0.2, **{**options, "steps": 60})
    teacher.sampler = advect.Sampler(guidance=(advect.guidance.CFG(3.0),))
    teacher.save_pretrained(tmp_path / "teacher")
    student = advect.train(MLP, data, objective=Distil(), others={"teacher": tmp_path / "teacher"}, **options)
    x, t = data[0], torch.full((64,), 0.5)
    with torch.no_grad():
        guided = teacher.bind(guidance=teacher.sampler.guidance, label=data[1])(x, t)
        plain = teacher.network(x, t, label=data[1])
        learned = student.network(x, t, label=data[1])
    assert (learned - guided).norm() < 0.3 * (plain - guided).norm()


def test_another_teacher_is_another_run(tmp_path: Any) -> None:
    options = {"objective": Distil(), "steps": 2, "batch_size": 8, "folder": tmp_path, "tensorboard": False, **CPU}
    advect.train(Affine(), points(), others={"teacher": Affine()}, **options)
    teacher = Affine()
    nn.init.ones_(teacher.linear.weight)
    with pytest.raises(InputError, match=r"other values of frozen\.teacher"):
        advect.train(Affine(), points(), others={"teacher": teacher}, **options)


def test_other_guidance_of_the_teacher_is_another_run(tmp_path: Any) -> None:
    options = {"objective": Distil(), "steps": 2, "batch_size": 8, "folder": tmp_path, "tensorboard": False, **CPU}
    teacher = advect.Flow(Affine(), shape=(2,), others={"weak": Affine()})
    for scale in (2.0, 2.0, 3.0):
        teacher.sampler = advect.Sampler(guidance=(advect.guidance.AutoGuidance(scale),))
        if scale == 2.0:
            advect.train(Affine(), points(), others={"teacher": teacher}, **options)
        else:
            with pytest.raises(InputError, match=r"frozen\.teacher\.0\.rules\.0\.scale \(2\.0 -> 3\.0\)"):
                advect.train(Affine(), points(), others={"teacher": teacher}, **options)


def test_a_role_that_is_missing_is_named() -> None:
    with pytest.raises(InputError, match=r"TwoRoles needs a network of the role 'score' \(trained field\)"):
        advect.train(Affine(), points(), objective=TwoRoles(), steps=1, **CPU)


def test_start_from_another_run(tmp_path: Any) -> None:
    first = advect.train(Affine(), points(), steps=5, batch_size=16, folder=tmp_path / "a", tensorboard=False, **CPU)
    options = {"steps": 1, "lr": 1e-12, "ema": None, "batch_size": 16, **CPU}
    for start in (tmp_path / "a", tmp_path / "a" / "flow", first):
        second = advect.train(Affine(), points(), start_from=start, **options)
        torch.testing.assert_close(state(second), state(first), rtol=1e-6, atol=1e-6)

    class Wider(Affine):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.Linear(2, 2)

    with pytest.raises(InputError, match=r"start_from is .*whose weight more\.bias of 'model' has shape None"):
        advect.train(Wider(), points(), start_from=tmp_path / "a", **options)


def test_bf16_computes_in_bf16_and_keeps_float32() -> None:
    seen = []

    class Look(Affine):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            out = super().forward(x, t)
            seen.append(out.dtype)
            return out

    flow = advect.train(Look(), points(), precision="bf16", steps=3, batch_size=8, **CPU)
    assert seen[-1] == torch.bfloat16
    assert state(flow).dtype == torch.float32


@pytest.mark.slow
def test_compiled_networks_learn_the_same() -> None:
    torch.testing.assert_close(trained(compile=True), trained(), rtol=1e-4, atol=1e-5)


def test_the_network_that_a_prediction_wears_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    spec = advect.NetSpec((2,))

    def made(compiled: bool) -> Tensor:
        torch.manual_seed(0)
        network = Prediction(MLP(spec, hidden=(8,)), "x1")
        counters.clear()
        return state(advect.train(network, points(), compile=compiled, steps=3, batch_size=8, **CPU))

    compiled = made(True)
    assert counters["frames"]["ok"] > 0
    torch.testing.assert_close(compiled, made(False), rtol=1e-4, atol=1e-5)


def test_the_average_is_of_the_weights() -> None:
    kept: list[Tensor] = []
    net = Affine()

    class Watch(Monitor):
        def step(self, done: int) -> None:
            kept.append(net.linear.weight.detach().clone().double())

    options = {"steps": 30, "batch_size": 16, "lr": 0.1, "monitor": Watch(), **CPU}
    flow = advect.train(net, points(), ema=ConstantEMA(0.8), **options)
    average = torch.zeros(2, 3, dtype=torch.float64)
    for step, weight in enumerate(kept):
        decay = min(0.8, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(flow.network.linear.weight.double(), average, rtol=1e-5, atol=1e-6)  # type: ignore
    assert flow.network.linear.weight.requires_grad  # type: ignore[union-attr]
    assert torch.equal(net.linear.weight.double(), kept[-1])
    assert advect.train(net, points(), ema=None, **options).network is net
    assert isinstance(TrainSettings().ema, PowerEMA)


def test_the_objective_sees_the_average() -> None:
    seen = []

    class Look(Fixed):
        needs: ClassVar[dict[str, str]] = {"ema": "field"}

        def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
            assert nets.ema is not None
            seen.append(nets.ema.linear.weight.detach().clone())  # type: ignore[attr-defined]
            return super().loss(nets, batch, generator)

    advect.train(Affine(), points(), objective=Look(), steps=4, batch_size=8, **CPU)
    assert not torch.equal(seen[0], seen[-1])
    with pytest.raises(InputError, match="needs an average of the weights"):
        advect.train(Affine(), points(), objective=Look(), ema=None, steps=4, **CPU)


def test_the_log_gives_the_loss_per_time_bin() -> None:
    rows: list[dict[str, Any]] = []

    class Watch(Monitor):
        def log(self, row: dict[str, Any]) -> None:
            rows.append(row)

    class Known(Objective):
        """A loss of t itself: bin k of 10 then has a mean of (k + 1/2) / 10."""

        def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
            t = (torch.arange(len(batch)) + 0.5) / len(batch)
            loss = t + 0 * nets.model(batch.x1, t).sum(1)
            return Loss(per_sample=loss, t=t, logs={"twice": 2 * t.mean()})

    advect.train(Affine(), points(100), objective=Known(), steps=20, batch_size=100, monitor=Watch(), **CPU)
    assert [row["step"] for row in rows] == [10, 20]
    assert rows[1]["loss"] == pytest.approx(0.5)
    assert rows[1]["twice"] == pytest.approx(1.0)
    assert rows[1]["loss_per_bin"] == pytest.approx([(k + 0.5) / 10 for k in range(10)])


def test_no_host_sync_between_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"item": 0}

    def counted(name: str) -> Any:
        original = getattr(Tensor, name)

        def call(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            counts["item"] += 1
            return original(self, *args, **kwargs)

        return call

    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu"):
        monkeypatch.setattr(Tensor, name, counted(name))
    spent = {}
    for steps in (10, 60):
        counts["item"] = 0
        advect.train(Affine(), points(), steps=steps, batch_size=16, **{**CPU, "log_every": 60})
        spent[steps] = counts["item"]
    assert spent[10] == spent[60]


def test_feed_is_a_function_of_its_place() -> None:
    args = (Tensors(points()), advect.codecs.Identity(), Conditions(), Transport(), (0, "train"), 16, 4)
    feed = Feed(*args, torch.device("cpu"), torch.float32)
    again = Feed(*args, torch.device("cpu"), torch.float32)
    first = [feed(step, shard) for step in range(3) for shard in range(4)]
    for step, shard in ((2, 3), (0, 0), (1, 2)):
        batch = again(step, shard)
        assert torch.equal(batch.x1, first[4 * step + shard].x1)
        assert torch.equal(batch.x0, first[4 * step + shard].x0)  # type: ignore[arg-type]
