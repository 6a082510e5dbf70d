"""What a step leaves for the log: means over steps, spread of what is per sample, and all of it in a checkpoint."""

import math

import pytest
import torch

from advect.training.meter import Meter, summary
from advect.training.module import Outcome

CPU = torch.device("cpu")


def outcomes(steps: int, shards: int) -> list[list[Outcome]]:
    generator = torch.Generator().manual_seed(0)

    def one() -> Outcome:
        loss, t = torch.rand(8, generator=generator), torch.rand(8, generator=generator)
        return Outcome(loss.mean(), loss, t, {"weight": torch.rand(8, generator=generator), "one": loss.max()})

    return [[one() for _ in range(shards)] for _ in range(steps)]


def fed(meter: Meter, steps: list[list[Outcome]]) -> Meter:
    for shards in steps:
        for outcome in shards:
            meter.add(outcome, 1 / len(shards))
        meter.close_step(torch.ones(()))
    return meter


@pytest.mark.parametrize("shards", [1, 2])
def test_spread_and_effective_share_of_the_weights_are_of_all_samples(shards):
    steps = outcomes(5, shards)
    row = summary(fed(Meter(10, 4, CPU), steps).tensors())
    weight = torch.cat([outcome.logs["weight"] for step in steps for outcome in step]).double()
    assert row["weight_mean"] == pytest.approx(float(weight.mean()))
    assert row["weight_variance"] == pytest.approx(float(weight.var(correction=0)))
    assert row["weight_ess"] == pytest.approx(float(weight.sum() ** 2 / weight.square().sum() / len(weight)))
    largest = torch.stack([outcome.logs["one"] for step in steps for outcome in step])
    assert row["one"] == pytest.approx(float(largest.mean()))
    assert "one_variance" not in row


def test_reading_in_between_and_going_on_from_a_checkpoint_change_nothing():
    steps = outcomes(6, 2)
    whole = summary(fed(Meter(10, 4, CPU), steps).tensors())
    halfway = fed(Meter(10, 4, CPU), steps[:3])
    kept = {name: value.clone() for name, value in halfway.tensors().items()}
    resumed = Meter(10, 4, CPU)
    resumed.restore(kept)
    assert summary(fed(resumed, steps[3:]).tensors()) == whole
    assert summary(fed(halfway, steps[3:]).tensors()) == whole
    halfway.clear()
    assert summary(fed(halfway, steps).tensors()) == whole


def test_equal_weights_have_no_negative_variance():
    generator = torch.Generator().manual_seed(0)
    for weight in torch.rand(100, generator=generator):
        steps = [[Outcome(weight, weight.expand(8), None, {"weight": weight.expand(8)}) for _ in range(3)]] * 7
        row = summary(fed(Meter(10, 4, CPU), steps).tensors())
        assert 0 <= row["weight_variance"] < 1e-12
        assert 1 - 1e-12 < row["weight_ess"] <= 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_seen_in_the_log(bad):
    weight = torch.tensor([1.0, bad])
    row = summary(fed(Meter(10, 4, CPU), [[Outcome(weight.sum(), weight, None, {"weight": weight})]]).tensors())
    assert not any(math.isfinite(row[name]) for name in ("weight_mean", "weight_variance", "weight_ess"))
