"""Laws that all metrics keep."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from advect import Batch, InputError
from advect.encoders import Pixels, SmallClassifier, Wrapped
from advect.metrics import (
    MMD,
    ClassAccuracy,
    EnergyDistance,
    ExactW2,
    FrechetDistance,
    KernelDistance,
    NearestTraining,
    Precision,
    Recall,
    SlicedW2,
    bootstrap_mean,
    energy_distance,
)
from advect.parts import build, config_of

DISTANCES = [FrechetDistance(), KernelDistance(), EnergyDistance(), MMD(), SlicedW2(), ExactW2()]
ALL = [*DISTANCES, Precision(), Recall(), NearestTraining()]


def images(n: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(n, 1, 2, 2, generator=torch.Generator().manual_seed(seed)) + shift


def by_name(metrics):
    return pytest.mark.parametrize("metric", metrics, ids=lambda m: type(m).__name__)


@by_name(ALL)
def test_a_figure_says_what_it_is(metric):
    found = metric(images(60), images(80, seed=1), resamples=8)
    assert found.name == metric.name
    assert found.low <= found.value <= found.high
    assert found.n in (60, 80)
    assert found.floor is not None
    assert found.floor_n > 0
    assert found.better == metric.better
    text = str(found)
    for part in (found.name, "N = ", "real against real", " to "):
        assert part in text
    assert json.loads(json.dumps(found.as_dict()))["n"] == found.n


@by_name(ALL)
def test_one_seed_gives_one_figure(metric):
    x, y = images(60), images(80, seed=1)

    def once(seed):
        return metric(x, y, torch.Generator().manual_seed(seed), resamples=8)

    assert once(3) == once(3)
    assert metric(x, y, resamples=8) == metric(x, y, resamples=8)
    assert (once(3).low, once(3).high) != (once(4).low, once(4).high)


@by_name(DISTANCES)
def test_distances_see_a_shift_and_the_floor_does_not(metric):
    near, far = (metric(images(100, shift=s), images(100, seed=1), resamples=20) for s in (0.5, 1.5))
    assert near.value < far.value
    assert far.low > far.floor


@by_name(ALL)
def test_no_resamples_no_interval(metric):
    found = metric(images(20), images(20, seed=1), resamples=0)
    assert found.low is None
    assert found.high is None
    assert " to " not in str(found)
    json.dumps(found.as_dict(), allow_nan=False)


@by_name(ALL)
def test_floor_from_other_real_samples_is_the_figure_of_those(metric):
    real, other = images(40, seed=1), images(40, seed=2)
    found = metric(images(40), real, other_real=other, resamples=0)
    assert found.floor == pytest.approx(metric(other, real, resamples=0).value, rel=1e-9)
    assert found.floor_n == 40
    more = metric(images(30), real, other_real=images(90, seed=2), resamples=0)
    assert more.floor_n == 30  # no more than there are fake ones, so that both have one bias


@by_name(ALL)
def test_metrics_are_parts(metric):
    again = build(config_of(metric))
    assert again.name == metric.name
    assert type(again) is type(metric)


@by_name(ALL)
def test_shapes_that_do_not_fit_are_refused(metric):
    with pytest.raises(InputError, match="give at least 4 of each, of one shape"):
        metric(images(20), torch.zeros(20, 1, 3, 3))
    with pytest.raises(InputError, match="give at least 4 of each, of one shape"):
        metric(images(3), images(20))


@by_name([EnergyDistance(most=10), KernelDistance(most=10), MMD(most=10), ExactW2(most=10)])
def test_a_subsample_is_what_n_says(metric):
    found = metric(images(30), images(40, seed=1), resamples=2)
    assert found.n == found.n_real == 10


def test_a_distance_is_called_fid_only_with_inception():
    def mean(x):
        return x.flatten(2).mean(2)

    plain, vouched = Wrapped(mean, "mine"), Wrapped(mean, "inception-v3", inception=True)
    assert (FrechetDistance(plain).name, KernelDistance(plain).name) == ("FD[mine]", "KD[mine]")
    assert (FrechetDistance(vouched).name, KernelDistance(vouched).name) == ("FID", "KID")
    assert FrechetDistance(Pixels()).name == "FD[pixels]"
    found = FrechetDistance(SmallClassifier("digits"))(*(torch.zeros(9, 1, 8, 8).normal_() for _ in range(2)))
    assert found.name == "FD[digits-cnn]"
    assert found.extractor == f"1 {SmallClassifier('digits').hash}"


def test_interval_of_a_mean_covers():
    hits = 0
    for i in range(200):
        g = torch.Generator().manual_seed(i)
        found = bootstrap_mean("mean", torch.rand(60, generator=g), g, resamples=200)
        hits += found.low <= 0.5 <= found.high
    assert 176 <= hits <= 199  # 95 % of 200, four standard errors


def test_interval_of_a_distance_covers():
    """Two unit normals one apart: X - Y is N(1, 2), E|X - X'| = 2 / sqrt(pi)."""
    big = [torch.randn(4000, 1, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (0, 1)]
    between = torch.distributions.Normal(0.0, 2**0.5)
    one = torch.tensor(1.0)
    distance = 2 * between.variance * between.log_prob(one).exp() + (2 * between.cdf(one) - 1)
    truth = (2 * distance - 4 / torch.pi**0.5).item()
    assert energy_distance(big[0], big[1] + 1).item() == pytest.approx(truth, abs=0.05)
    hits = 0
    for i in range(120):
        g = torch.Generator().manual_seed(i)
        x, y = (torch.randn(50, 1, generator=g, dtype=torch.float64) + s for s in (0, 1))
        found = EnergyDistance()(x, y, g, resamples=150)
        hits += found.low <= truth <= found.high
    assert hits >= 104  # 95 % of 120, four standard errors


def test_precision_and_recall_tell_lost_modes_from_bad_samples():
    real = torch.cat([images(60, seed=1), images(60, seed=2, shift=20.0)])
    one_mode = images(120, seed=3)
    assert Precision()(one_mode, real).value > 0.8
    assert Recall()(one_mode, real).value < 0.55
    half_bad = torch.cat([images(60, seed=3), images(60, seed=4, shift=-20.0)])
    assert Precision()(half_bad, real).value < 0.55
    with pytest.raises(InputError, match="k is 30, but precision"):
        Precision(k=30)(images(20), images(20, seed=1))


def test_copies_of_training_samples_are_found():
    train, held_out = images(200), images(100, seed=1)
    copies = NearestTraining()(train[:100] + 1e-4, train, other_real=held_out)
    fresh = NearestTraining()(images(100, seed=2), train, other_real=held_out)
    assert copies.value < 1e-3 < 0.1 < copies.floor
    assert fresh.low < fresh.floor < fresh.high


def test_class_accuracy_counts_what_the_judge_says():
    from advect.data import Digits

    data = Digits()
    test, train = (data.batch(s, torch.arange(200)) for s in ("test", "train"))
    metric = ClassAccuracy(SmallClassifier("digits"))
    good = metric(test, train)
    assert good.value > 0.98
    assert good.floor > 0.98
    wrong = test.replace(cond={"label": (test.cond["label"] + 1) % 10})
    assert metric(wrong, train).value < 0.02
    noise = Batch(torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)), test.cond)
    assert metric(noise, train).value < 0.4
    with pytest.raises(InputError, match="was given samples without classes: pass Batch"):
        metric(test.x1, train)
