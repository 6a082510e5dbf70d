"""Laws of all couplings, exact transport against scipy, Sinkhorn against its marginals, labels that stay put."""

from __future__ import annotations

import dataclasses
import pickle
import sys

import numpy as np
import pytest
import torch

import advect.couplings as couplings
from advect import Batch, InputError, MissingExtra, Transport
from advect.couplings import Coupling, GibbsWeights, Independent, MinibatchOT, Paired, SinkhornOT, assign, sinkhorn
from advect.parts import build, config_of

ALL = [
    Independent(),
    Paired(),
    MinibatchOT(),
    MinibatchOT(within="label"),
    MinibatchOT(within="label", penalty=2.0),
    SinkhornOT(reg=0.5),
    SinkhornOT(reg=0.1, relative=True, within="label"),
    GibbsWeights(eps=2.0, normalise="batch"),
]
PAIRING = [c for c in ALL if isinstance(c, (MinibatchOT, SinkhornOT))]
by_name = pytest.mark.parametrize("coupling", ALL, ids=repr)
by_pairing = pytest.mark.parametrize("coupling", PAIRING, ids=repr)


def _batch(n: int = 150, shape: tuple[int, ...] = (3,), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, dict]:
    g = torch.Generator().manual_seed(seed)
    x0, x1 = torch.randn(n, *shape, generator=g), 2 * torch.rand(n, *shape, generator=g) + 3
    return x0, x1, {"label": torch.randint(4, (n,), generator=g)}


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_coupling_is_tested():
    members = {m for m in vars(couplings).values() if isinstance(m, type) and issubclass(m, Coupling)} - {Coupling}
    assert members == {type(c) for c in ALL}


@by_name
def test_config_and_pickle_give_the_same_part(coupling: Coupling):
    for again in (build(config_of(coupling)), pickle.loads(pickle.dumps(coupling))):
        assert type(again) is type(coupling)
        assert config_of(again) == config_of(coupling)


@by_name
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 4, 4), (130,)], ids=str)
def test_a_coupling_permutes_x0_and_leaves_x1(coupling: Coupling, shape: tuple[int, ...]):
    x0, x1, cond = _batch(64, shape)
    pairs = coupling(x0, x1, cond, None, _seeded())
    if pairs is None:
        return
    assert pairs.i1 is None
    if isinstance(coupling, GibbsWeights):  # it moves nothing
        assert pairs.i0 is None
        assert pairs.log_weight.shape == (64,)
        return
    assert pairs.log_weight is None
    assert pairs.i0 is not None
    assert torch.equal(pairs.i0.sort().values, torch.arange(64))


@by_name
def test_same_seed_same_pairs(coupling: Coupling):
    x0, x1, cond = _batch()
    first, again, other = (coupling(x0, x1, cond, None, _seeded(seed)) for seed in (1, 1, 2))
    if first is None or again is None or other is None:
        return
    if first.i0 is None:
        assert torch.equal(first.log_weight, again.log_weight)
        return
    assert torch.equal(first.i0, again.i0)
    assert torch.equal(first.i0, other.i0) == isinstance(coupling, MinibatchOT)  # only Sinkhorn draws


def test_only_the_independent_coupling_is_independent():
    assert [c for c in ALL if c.independent] == [Independent()]
    assert Transport(coupling=MinibatchOT()).score_refusal is not None
    assert "MinibatchOT" in Transport(coupling=MinibatchOT()).score_refusal


@by_pairing
def test_transport_keeps_every_label_weight_and_id_with_its_data(coupling: Coupling):
    x0, x1, cond = _batch()
    batch = Batch(x1, cond, x0=x0, weight=x1[:, 0], extras={"id": x1[:, 1], "x0_id": x0[:, 1]})
    out = Transport(coupling=coupling).pair(batch, _seeded())
    assert torch.equal(out.x1, x1)
    assert torch.equal(out.cond["label"], cond["label"])
    assert torch.equal(out.weight, x1[:, 0])
    assert torch.equal(out.extras["id"], x1[:, 1])
    assert torch.equal(out.extras["x0_id"], out.x0[:, 1])
    assert not torch.equal(out.x0, x0)
    assert torch.equal(out.x0.sort(0).values, x0.sort(0).values)


@pytest.mark.parametrize("coupling", [MinibatchOT("label"), SinkhornOT(0.5, within="label")], ids=repr)
def test_within_keeps_x0_in_its_label(coupling: Coupling):
    """The source of a label must stay a free draw, so x0 may move only among places of one label."""
    x0, x1, cond = _batch()
    i0 = coupling(x0, x1, cond, None, _seeded()).i0
    assert torch.equal(cond["label"][i0], cond["label"])
    assert not torch.equal(i0, torch.arange(len(i0)))
    free = dataclasses.replace(coupling, within=None)(x0, x1, cond, None, _seeded()).i0
    assert not torch.equal(cond["label"][free], cond["label"])


def test_penalty_lies_between_free_and_strict():
    x0, x1, cond = _batch()
    crossing = []
    for penalty in (0.0, 1.0, 1e6):
        i0 = MinibatchOT("label", penalty)(x0, x1, cond).i0
        crossing.append(int((cond["label"][i0] != cond["label"]).sum()))
    assert crossing[0] > crossing[1] > crossing[2] == 0
    assert torch.equal(MinibatchOT("label", 0.0)(x0, x1, cond).i0, MinibatchOT()(x0, x1).i0)
    assert torch.equal(MinibatchOT("label", 1e6)(x0, x1, cond).i0, MinibatchOT("label")(x0, x1, cond).i0)


def test_penalty_on_real_conditions_is_a_squared_distance():
    x0, x1, _ = _batch(40)
    age = torch.randn(40, 2, generator=_seeded(3))
    i0 = MinibatchOT("age", 5.0)(x0, x1, {"age": age}).i0
    cost = torch.cdist(x1, x0).square() + 5 * torch.cdist(age, age).square()
    assert torch.equal(i0, assign(cost.double()))


def test_ragged_rows_are_paired_inside_their_sample():
    x0, x1, _ = _batch(60)
    rows = torch.randint(7, (60,), generator=_seeded(1))
    i0 = MinibatchOT()(x0, x1, {"size": torch.arange(7)}, rows).i0
    assert torch.equal(rows[i0], rows)
    for sample in range(7):
        member = (rows == sample).nonzero()[:, 0]
        alone = MinibatchOT()(x0[member], x1[member]).i0
        assert torch.equal(i0[member], member[alone])


@pytest.mark.parametrize("dimension", [1, 2, 3, 64, 65, 784])
@pytest.mark.parametrize("n", [5, 100, 200, 600])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_exact_transport_reaches_the_total_of_scipy(dimension: int, n: int, offset: float):
    scipy = pytest.importorskip("scipy")
    x0, x1, _ = _batch(n, (dimension,), seed=n + dimension)
    x0, x1 = x0 + offset, x1 + offset  # without a common centre, the products of float32 would lose every digit
    cost = scipy.spatial.distance.cdist(x1.numpy(), x0.numpy(), "sqeuclidean")
    least = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
    ours = cost[np.arange(n), MinibatchOT()(x0, x1).i0.numpy()].sum()
    assert ours == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("kind", ["integers", "equal", "outliers", "tiny", "one empty column", "huge"])
def test_assignment_is_exact_on_awkward_costs(kind: str):
    scipy = pytest.importorskip("scipy")
    cost = torch.rand(600, 600, generator=_seeded(0), dtype=torch.float64)
    if kind == "integers":
        cost = (cost * 5).floor()
    elif kind == "equal":
        cost = torch.full_like(cost, 3.0)
    elif kind == "outliers":
        cost[0] *= 1e9
        cost[:, 5] *= 1e12
    elif kind == "tiny":
        cost *= 1e-30
    elif kind == "one empty column":
        cost[:, 7] += 1e6
    else:
        cost *= 1e60  # beyond float32
    before = cost.clone()
    p = assign(cost)
    assert torch.equal(cost, before)
    assert torch.equal(p.sort().values, torch.arange(600))
    least = cost.numpy()[scipy.optimize.linear_sum_assignment(cost.numpy())].sum()
    assert float(cost.gather(1, p[:, None]).sum()) == pytest.approx(float(least), rel=1e-9)


def test_sinkhorn_plan_has_the_marginals_it_was_given():
    g = _seeded(0)
    cost = torch.rand(3, 20, 30, generator=g, dtype=torch.float64)
    a, b = torch.rand(3, 20, generator=g).double(), torch.rand(3, 30, generator=g).double()
    a, b = a / a.sum(-1, keepdim=True), b / b.sum(-1, keepdim=True)
    for reg in (1.0, 0.03, 0.003):
        plan = sinkhorn(cost, reg, a.log(), b.log(), steps=100_000, tolerance=1e-9)
        assert plan.error <= 1e-9
        assert torch.allclose(plan.log_plan.exp().sum(-1), a, rtol=1e-8)
        assert torch.allclose(plan.log_plan.exp().sum(-2), b, rtol=1e-8)
        alone = sinkhorn(cost[1], reg, a[1].log(), b[1].log(), steps=100_000, tolerance=1e-9)
        assert torch.allclose(alone.log_plan, plan.log_plan[1], atol=1e-4)


def test_sinkhorn_plan_is_the_one_of_pot():
    ot = pytest.importorskip("ot")
    cost = torch.rand(40, 50, generator=_seeded(0), dtype=torch.float64)
    plan = sinkhorn(cost, 0.05, steps=100_000, tolerance=1e-12).log_plan.exp()
    theirs = ot.sinkhorn(
        np.full(40, 1 / 40), np.full(50, 1 / 50), cost.numpy(), 0.05, stopThr=1e-14, numItermax=100_000
    )
    assert np.abs(plan.numpy() - theirs).max() < 1e-12


def test_sinkhorn_survives_a_temperature_that_underflows():
    cost = torch.rand(50, 50, generator=_seeded(0)) * 1e4
    plan = sinkhorn(cost, 1.0, steps=5000, tolerance=1e-3)
    assert torch.isfinite(plan.error)
    assert not torch.isnan(plan.log_plan).any()
    assert torch.allclose(plan.log_plan.exp().sum(-2), torch.full((50,), 1 / 50), rtol=1e-3)


def test_sinkhorn_permutations_cost_what_the_plan_costs():
    """Also far from both ends: near 0 the pairs are the exact ones, near infinity independent."""
    x0, x1, _ = _batch(200, (2,))
    cost = torch.cdist(x1, x0).square().double()
    independent, least = cost.mean(), cost.gather(1, assign(cost)[:, None]).mean()
    for share in (0.2, 0.05, 0.01):
        coupling = SinkhornOT(reg=share, relative=True)
        plan = sinkhorn(cost, share * cost.mean(), steps=10_000).log_plan.exp()
        drawn = [cost.gather(1, coupling(x0, x1, generator=_seeded(k)).i0[:, None]).mean() for k in range(20)]
        expected = ((plan * cost).sum() - least) / (independent - least)
        ours = (torch.stack(drawn).mean() - least) / (independent - least)
        assert ours == pytest.approx(float(expected), rel=0.1)
    cold = SinkhornOT(reg=1e-5, relative=True, steps=2000)(x0, x1, generator=_seeded()).i0
    assert cost.gather(1, cold[:, None]).mean() < least + 0.01 * (independent - least)


def test_relative_regularisation_is_a_share_of_the_mean_cost():
    x0, x1, cond = _batch(100)
    mean = torch.cdist(x0, x1).square().mean().item()
    relative = SinkhornOT(0.1, relative=True, within="label")(x0, x1, cond, None, _seeded()).i0
    absolute = SinkhornOT(0.1 * mean, within="label")(x0, x1, cond, None, _seeded()).i0
    assert torch.equal(relative, absolute)


@by_pairing
def test_what_cannot_be_paired_is_refused(coupling: Coupling):
    x0, x1, cond = _batch(8)
    x1[3, 1] = float("nan")
    with pytest.raises(InputError, match="x1 holds NaN or infinity"):
        coupling(x0, x1, cond, None, _seeded())
    with pytest.raises(InputError, match=r"x0 has shape \(8, 3\) and x1 \(7, 3\)"):
        coupling(x0, x0[:7], cond, None, _seeded())


def test_bad_settings_are_refused():
    x0, x1, cond = _batch(8)
    with pytest.raises(InputError, match="within is 'class', but the batch brings the conditions"):
        MinibatchOT("class")(x0, x1, cond)
    with pytest.raises(InputError, match="holds real numbers: give a penalty"):
        MinibatchOT("age")(x0, x1, {"age": torch.rand(8)})
    with pytest.raises(InputError, match=r"penalty is 1\.0, but within is None"):
        MinibatchOT(penalty=1.0)
    with pytest.raises(InputError, match=r"penalty is -1\.0: give a finite cost"):
        SinkhornOT(within="label", penalty=-1.0)
    with pytest.raises(InputError, match="reg is 0: the temperature"):
        SinkhornOT(reg=0)
    with pytest.raises(InputError, match=r"reg is 0\.0: the temperature"):
        sinkhorn(torch.zeros(3, 3), 0)
    with pytest.raises(InputError, match="steps=0"):
        SinkhornOT(steps=0)
    with pytest.raises(InputError, match="cost holds NaN"):
        assign(torch.full((3, 3), float("nan")))
    with pytest.raises(InputError, match=r"cost has shape \(2, 3\)"):
        assign(torch.zeros(2, 3))


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    x0, x1, _ = _batch(8)
    with pytest.raises(MissingExtra, match=r"pip install 'advect\[ot\]'"):
        MinibatchOT()(x0, x1)
