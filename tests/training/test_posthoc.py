"""Averages of weights: profiles of the power function, and any width from snapshots of two."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import advect
from advect.errors import InputError
from advect.files import load_tensors
from advect.training import ConstantEMA, Monitor, PowerEMA, reconstruct
from advect.training.ema import Averages, exponent_of
from advect.training.logs import read_log
from advect.training.posthoc import combine, posthoc_weights


@pytest.mark.parametrize(("std", "gamma"), [(0.05, 16.97), (0.10, 6.94), (0.15, 3.56), (0.20, 1.83)])
def test_widths_have_the_published_exponents(std: float, gamma: float) -> None:
    assert exponent_of(std) == pytest.approx(gamma, abs=0.02)


@pytest.mark.parametrize("std", [0.03, 0.1, 0.25])
def test_the_width_is_the_standard_deviation_of_the_profile(std: float) -> None:
    gamma = exponent_of(std)
    tau = (np.arange(200_000) + 0.5) / 200_000
    profile = (gamma + 1) * tau**gamma
    mean = (tau * profile).mean()
    assert np.sqrt(((tau - mean) ** 2 * profile).mean()) == pytest.approx(std, rel=1e-4)


def test_a_power_average_weighs_steps_by_the_power_function() -> None:
    gamma, steps = exponent_of(0.1), 400
    impulse = np.zeros(steps)  # the share of each step's weights in the average
    for step in range(steps):
        keep = PowerEMA((0.1,)).decays(step)[0]
        impulse *= keep
        impulse[step] = 1 - keep
    assert impulse.sum() == pytest.approx(1.0)  # nothing is left of the weights that training began with
    tau = (np.arange(steps) + 0.5) / steps
    np.testing.assert_allclose(impulse[40:], (gamma + 1) * tau[40:] ** gamma / steps, rtol=0.12, atol=1e-5)


@pytest.mark.parametrize("std", [0.0, -1.0, 0.3])
def test_widths_out_of_range_are_refused(std: float) -> None:
    with pytest.raises(InputError, match=rf"std is {std}"):
        PowerEMA((std,))


def test_a_kept_average_is_found_again() -> None:
    kept = [(n, std) for n in (50.0, 100.0, 150.0, 200.0) for std in (0.05, 0.1)]
    for place, one in enumerate(kept):
        np.testing.assert_allclose(posthoc_weights(kept, one), np.eye(len(kept))[place], atol=1e-6)


def test_what_is_not_floating_is_of_the_last() -> None:
    sets = [{"w": torch.tensor([1.0]), "n": torch.tensor(3)}, {"w": torch.tensor([2.0]), "n": torch.tensor(4)}]
    out = combine(sets, [0.25, 0.75])
    assert out["w"].tolist() == [1.75]
    assert int(out["n"]) == 4


class Net(nn.Module):
    """A field in 2-D with a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return self.linear(torch.cat([x, t.expand(len(x))[:, None]], 1))


@pytest.mark.parametrize("std", [0.07, 0.13])
def test_an_average_found_afterwards_is_the_one_kept_during_training(std: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = Net(), torch.randn(200, 2)
    kept: list[Tensor] = []

    class Watch(Monitor):
        def step(self, done: int) -> None:
            kept.append(net.linear.weight.detach().clone().double())

    options: dict[str, Any] = {"steps": 400, "batch_size": 32, "lr": 0.05, "device": "cpu", "tensorboard": False}
    ema = PowerEMA((0.05, 0.1), snapshots=25)
    flow = advect.train(net, x, ema=ema, folder=tmp_path / "run", monitor=Watch(), schedule="constant", **options)
    truth, plain = torch.zeros(2, 3, dtype=torch.float64), torch.stack(kept[-1:]).mean(0)
    for step, weight in enumerate(kept):
        keep = (step / (step + 1)) ** (exponent_of(std) + 1)
        truth = keep * truth + (1 - keep) * weight
    found = reconstruct(tmp_path / "run", std, flow=flow).network
    error = (found.linear.weight - truth).norm()  # type: ignore[union-attr]  # the Net above
    assert error < 0.05 * (plain - truth).norm()
    assert int(found.seen) == int(net.seen)  # type: ignore[union-attr, arg-type]  # likewise
    with pytest.raises(InputError, match="no snapshots up to step 10"):
        reconstruct(tmp_path / "run", std, flow=flow, step=10)


def test_averages_move_with_their_networks_alone() -> None:
    net = Net()
    averages = Averages(ConstantEMA(0.5), {"model": net})
    with torch.no_grad():
        net.linear.weight.add_(1.0)
    before = averages.networks()["model"].linear.weight.clone()  # type: ignore[union-attr, operator]
    averages.update(1000)
    after = averages.networks()["model"].linear.weight  # type: ignore[union-attr]
    torch.testing.assert_close(after, (before + net.linear.weight) / 2)  # type: ignore[arg-type]
    assert not after.requires_grad  # type: ignore[union-attr]


def test_weights_and_biases_gets_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Library(ModuleType):
        def init(self, **given: Any) -> Library:
            told.append(given["project"])
            return self

        def log(self, numbers: dict[str, float], step: int) -> None:
            told.append((step, numbers["loss"]))

        def finish(self) -> None:
            told.append("finished")

    monkeypatch.setitem(sys.modules, "wandb", Library("wandb"))
    options: dict[str, Any] = {"steps": 4, "batch_size": 8, "log_every": 2, "device": "cpu", "tensorboard": False}
    advect.train(Net(), torch.ones(8, 2), folder=tmp_path, wandb="tests", **options)
    rows = read_log(tmp_path / "log.jsonl")
    assert told == ["tests", *((row["step"], row["loss"]) for row in rows), "finished"]


def test_tensorboard_has_the_rows_of_the_log(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    torch.manual_seed(0)
    options: dict[str, Any] = {"batch_size": 8, "log_every": 5, "device": "cpu", "schedule": "constant"}
    advect.train(Net(), torch.ones(8, 2), folder=tmp_path, steps=10, **options)
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    rows = read_log(tmp_path / "log.jsonl")
    found = [(e.step, e.value) for e in events.Scalars("loss")]
    assert found == [(row["step"], pytest.approx(row["loss"])) for row in rows]
    assert events.Scalars("loss_per_bin/0")
    assert json.loads((tmp_path / "recipe.json").read_text())["settings"]["init_args"]["log_every"] == 5
    assert load_tensors(tmp_path / "flow" / "model.safetensors")
