"""Laws of all time densities, and their moments in closed form."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

import advect.times as times
from advect import InputError
from advect.interpolants import Cosine, Linear
from advect.parts import build, config_of
from advect.times import CosMap, EDMLogNormal, FiniteSet, LogitNormal, Mode, ShiftedTimes, TimeDensity, Uniform, UShaped

ALL = [
    Uniform(),
    Uniform(0.001, 0.9),
    LogitNormal(),
    LogitNormal(0.5, 0.7),
    Mode(),
    Mode(-1.0),
    CosMap(),
    UShaped(),
    UShaped(0.5),
    FiniteSet((0.0, 0.25, 1.0)),
    EDMLogNormal(),
    EDMLogNormal(interpolant=Cosine()),
    ShiftedTimes(),
    ShiftedTimes(LogitNormal(), 0.5),
]
every = pytest.mark.parametrize("density", ALL, ids=repr)


def test_every_density_is_tested():
    members = {m for m in vars(times).values() if isinstance(m, type) and issubclass(m, TimeDensity)} - {TimeDensity}
    assert members == {type(d) for d in ALL}


@every
def test_config_and_pickle_give_the_same_part(density: TimeDensity):
    assert build(config_of(density)) == density
    assert pickle.loads(pickle.dumps(density)) == density


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_times_lie_in_the_unit_interval_with_shape_and_type(density: TimeDensity, dtype: torch.dtype):
    t = density.sample(100_000, torch.Generator().manual_seed(0), dtype=dtype)
    assert t.shape == (100_000,)
    assert t.dtype == dtype
    assert t.min() >= 0
    assert t.max() <= 1


@every
def test_same_seed_same_times(density: TimeDensity):
    one, two, three = (density.sample(50, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


@pytest.mark.parametrize("density", [Uniform(), Mode(), Mode(-1.0), CosMap(), UShaped()], ids=repr)
def test_the_ends_of_u_are_ends_of_time(density):
    ends = density.transform(torch.tensor([0.0, 0.5, 1.0 - 2.0**-24], dtype=torch.float64))
    assert ends[0] == 0
    assert ends.min() >= 0
    assert ends.max() <= 1
    assert ends[2] == pytest.approx(1.0 if not isinstance(density, UShaped) else 0.0, abs=1e-5)


def test_uniform_reaches_neither_below_start_nor_above_end():
    t = Uniform(1e-3, 0.8).sample(1_000_000, torch.Generator().manual_seed(0))
    assert t.min() >= 1e-3
    assert t.max() <= 0.8
    assert t.mean() == pytest.approx(0.4005, abs=1e-3)


def test_u_shaped_density_is_the_stated_one():
    a, t = 4.0, UShaped(4.0).sample(1_000_000, torch.Generator().manual_seed(0), dtype=torch.float64)
    edges = torch.linspace(0, 1, 11, dtype=torch.float64)
    cdf = 0.5 * (1 - torch.exp(-a * edges) + torch.exp(-a * (1 - edges)) - math.exp(-a)) / (1 - math.exp(-a))
    share = torch.histogram(t, edges).hist / len(t)
    assert torch.allclose(share, cdf.diff(), atol=2e-3)


def test_logit_normal_has_normal_logits():
    logits = torch.logit(LogitNormal(0.4, 0.6).sample(1_000_000, torch.Generator().manual_seed(0), dtype=torch.float64))
    assert logits.mean() == pytest.approx(0.4, abs=3e-3)
    assert logits.std() == pytest.approx(0.6, abs=3e-3)


@pytest.mark.parametrize("path", [Linear(), Cosine()], ids=repr)
def test_edm_noise_levels_are_log_normal_on_any_path(path):
    t = EDMLogNormal(-1.2, 1.2, path).sample(1_000_000, torch.Generator().manual_seed(0), dtype=torch.float64)
    log_noise = -path.half_log_snr(t)
    assert log_noise.mean() == pytest.approx(-1.2, abs=5e-3)
    assert log_noise.std() == pytest.approx(1.2, abs=5e-3)


def test_finite_set_draws_its_members_exactly_and_evenly():
    t = FiniteSet((0.0, 1 / 3, 2 / 3)).sample(90_000, torch.Generator().manual_seed(0), dtype=torch.float64)
    values, counts = t.unique(return_counts=True)
    assert values.tolist() == [0.0, 1 / 3, 2 / 3]
    assert (counts / 90_000 - 1 / 3).abs().max() < 0.01


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match=r"start=0\.5, end=0\.5"):
        Uniform(0.5, 0.5)
    with pytest.raises(InputError, match="std is 0"):
        LogitNormal(std=0)
    with pytest.raises(InputError, match=r"scale is 1\.8"):
        Mode(1.8)
    with pytest.raises(InputError, match="a is 0"):
        UShaped(0)
    with pytest.raises(InputError, match=r"times is \(0\.5, 1\.5\)"):
        FiniteSet((0.5, 1.5))
    with pytest.raises(InputError, match=r"times is \(\)"):
        FiniteSet(())
    with pytest.raises(InputError, match="std is -1"):
        EDMLogNormal(std=-1)
