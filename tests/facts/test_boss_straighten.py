"""Straightening on a Bellman grid: the targets, what is stored, what the result is good for, adapters, guidance."""

from __future__ import annotations

import itertools
import json
import warnings

import pytest
import torch
from torch import Tensor

from advect import Batch, Flow, Run, train
from advect.conditions import ClassLabel, Conditions
from advect.data import StoredPairs, StoredSegments, Tensors
from advect.distillation import KStep, Mixed, SegmentRegression, SquaredError, reflow_transport, straight_transport
from advect.errors import InputError
from advect.fitting import FitBellman, bellman_costs
from advect.guidance import CFG
from advect.networks import MLP, NetSpec
from advect.objectives import Networks
from advect.randomness import generator, randn
from advect.sampler import Sampler
from advect.saving import save_fitted
from advect.solvers import Euler, Heun
from advect.times import BellmanGrid, CustomGrid, TimeGrid
from advect.training import make_segments, straighten
from advect.transport import Transport

S = 1 / torch.arange(1, 65, dtype=torch.float64)
FINE = [i / 100 for i in range(101)]
ROWS = 8 * torch.eye(64, dtype=torch.float64)
PATH = (0, 41, 69, 91, 100)
LABEL = ClassLabel(2)


def velocity(x: Tensor, t: Tensor) -> Tensor:
    t, s = t.to(x.dtype), S.to(x.dtype)
    if t.ndim:
        t = t[:, None]
    return (t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2) * x


def segments_of(states: Tensor) -> list[Batch]:
    """The segments of a recorded fine run, one batch each."""
    out = []
    for i, j in itertools.pairwise(PATH):
        times = {name: torch.full((64,), FINE[node], dtype=torch.float64) for name, node in (("r", i), ("t", j))}
        out.append(Batch(states[j], x0=states[i], extras=times))
    return out


@pytest.fixture(scope="module")
def flow() -> Flow:
    """A small teacher in two dimensions with two classes."""
    x = torch.cat([randn((400, 2), generator(0)) * 0.2 + 2, randn((400, 2), generator(1)) * 0.5 - 1])
    labels = torch.arange(800).div(400, rounding_mode="floor")
    data = Tensors(x, labels)
    return train(
        lambda spec: MLP(spec, hidden=(48, 48)), data, drop=0.1, steps=250, batch_size=128, lr=3e-3, device="cpu"
    )


@pytest.fixture(scope="module")
def grid(flow) -> BellmanGrid:
    return FitBellman(3, TimeGrid(40), n=64)(flow)


@pytest.fixture(scope="module")
def segments(flow, grid, tmp_path_factory) -> StoredSegments:
    folder = tmp_path_factory.mktemp("segments") / "s"
    cond = {"label": torch.arange(300) % 2}
    return make_segments(flow, grid, 300, folder, several=(2, 5), cond=cond, batch_size=64, shard_size=100)


def test_fact_07_the_oracle_has_no_loss_and_every_step_lands_on_the_fine_run():
    states = Euler()(velocity, ROWS, FINE, record=True).states
    g = [FINE[i] for i in PATH]

    def oracle(x: Tensor, r: Tensor) -> Tensor:
        k = int((torch.tensor(g[:-1]) - r.reshape(-1)[0]).abs().argmin())
        start, end = states[PATH[k]], states[PATH[k + 1]]
        assert torch.allclose(x, start, atol=1e-6)  # asked at the grid states alone
        return (end - start) / (g[k + 1] - g[k])

    def whole(x: Tensor, r: Tensor) -> Tensor:
        return states[-1] - states[0]

    objective = SegmentRegression()
    losses = [objective(Networks(oracle), batch).mean() for batch in segments_of(states)]
    assert max(losses) < 1e-20
    run = Euler()(oracle, ROWS, g, record=True)
    for node, state in zip(PATH, run.states, strict=True):
        assert (state - states[node]).abs().max() < 1e-6
    # the target of the whole path lands on the end as well, but on none of the states before
    wrong = Euler()(whole, ROWS, g, record=True).states
    assert (wrong[-1] - states[-1]).abs().max() < 1e-6
    assert all((wrong[k] - states[PATH[k]]).abs().max() > 1e-2 for k in (1, 2, 3))
    wrong_loss = sum(float(objective(Networks(whole), batch).mean()) for batch in segments_of(states)) / 4
    assert wrong_loss == pytest.approx(0.0441, abs=1e-4)


def test_fact_07_distances_see_the_end_of_the_step():
    states = Euler()(velocity, ROWS, FINE, record=True).states
    batch = segments_of(states)[1]
    mean = (batch.x1 - batch.x0) / (batch.extras["t"] - batch.extras["r"])[:, None]
    mixed = SegmentRegression(Mixed(SquaredError(), SquaredError()))
    assert mixed(Networks(lambda x, r: mean), batch).mean() < 1e-20
    without_length = batch.x1 - batch.x0  # right for a step of length one only
    assert mixed(Networks(lambda x, r: without_length), batch).mean() > 1e-3


def test_fact_07_stored_segments_are_the_states_of_the_fine_run(flow, grid, segments):
    assert segments.size() == 300 * 3
    assert segments.times == pytest.approx(grid.times())
    index = torch.tensor([0, 1, 2, 301 * 1, 899])
    batch = segments.batch("train", index)
    number, k = index.div(3, rounding_mode="floor"), index % 3
    pairs = StoredSegments(segments.folder, (0, 40))
    whole = pairs.batch("train", torch.arange(300))
    label = torch.arange(300) % 2
    assert torch.equal(whole.cond["label"], label)
    run = Euler()(flow.bind(label=label), whole.x0, TimeGrid(40), record=True)
    torch.testing.assert_close(run.states[-1], whole.x1, rtol=1e-4, atol=1e-5)
    path = torch.tensor(grid.path())
    torch.testing.assert_close(batch.x0, run.states[path[k], number], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(batch.x1, run.states[path[k + 1], number], rtol=1e-4, atol=1e-5)
    assert torch.equal(batch.extras["r"], torch.tensor(grid.times())[k])
    assert torch.equal(batch.cond["label"], label[number])
    # one pass serves several numbers of steps; a node that was not stored is refused by its number
    for steps in (2, 5):
        other = StoredSegments(segments.folder, tuple(grid.with_steps(steps).path()))
        assert other.size() == 300 * steps
    with pytest.raises(InputError, match="holds the nodes"):
        StoredSegments(segments.folder, (0, 39, 40)).size()
    with pytest.raises(InputError, match="holds segments, not pairs"):
        StoredPairs(segments.folder).size()


def test_fact_07_segments_go_on_where_they_were_stopped(flow, grid, segments, tmp_path):
    cond = {"label": torch.arange(300) % 2}
    options = {"several": (2, 5), "cond": cond, "batch_size": 32, "shard_size": 100}
    first = make_segments(flow, grid, 300, tmp_path / "s", part=(0, 2), **options)
    assert not (tmp_path / "s" / "shard-00001.json").exists()
    done: list[int] = []
    again = make_segments(flow, grid, 300, tmp_path / "s", on_done=done.append, **options)
    assert done == [132, 164, 196, 200]  # the second shard of three alone
    index = torch.arange(900)
    torch.testing.assert_close(again.batch("train", index).x1, segments.batch("train", index).x1, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"holds other pairs, which differ in .*path"):
        make_segments(flow, grid.with_steps(4), 300, tmp_path / "s", **options)
    assert first == again


def test_fact_07_training_looks_at_the_grid_times_alone(flow, segments):
    seen: set[float] = set()

    class Spy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x, t, label=None):
            seen.update(t.reshape(-1).tolist())
            return self.scale * x

    spied = Flow(Spy(), flow.transport, None, flow.conditions, shape=(2,))
    straighten(spied, segments, steps=3, batch_size=64, device="cpu")
    grid_times = [float(torch.tensor(t)) for t in segments.times]
    assert {round(t, 6) for t in seen} - {0.5} == {round(t, 6) for t in grid_times[:-1]}  # .5: the call on trial


def test_fact_08_a_straightened_flow_warns_on_any_other_grid(flow, segments, tmp_path):
    out = straighten(flow, segments, steps=20, batch_size=64, lr=1e-3, device="cpu")
    assert isinstance(out.sampler.solver, Euler)
    assert out.sampler.grid.times() == segments.times
    out.save_pretrained(tmp_path / "flow")
    for one in (out, Flow.from_pretrained(tmp_path / "flow")):
        run = Run()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            one.sample(4, seed=0, label=0, run=run)
            nearly = [t + 1e-9 if 0 < t < 1 else t for t in segments.times]  # not by equality of floats
            one.sample(4, seed=0, label=0, grid=nearly)
        assert run.nfe == 3
        for options in ({"grid": 3}, {"grid": TimeGrid(8)}, {"solver": Heun()}, {"grid": [0.0, 0.5, 1.0]}):
            with pytest.warns(UserWarning, match="trained for Euler on the grid"):
                one.sample(4, seed=0, label=0, **options)
        with pytest.warns(UserWarning, match="an adaptive solver"):
            one.encode(torch.zeros(2, 2), label=0)
        with pytest.raises(InputError, match="has the 3 steps it was given"):
            one.sample(4, seed=0, label=0, steps=4)
        assert "mean velocity" in str(one.score_refusal)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow.sample(4, seed=0, label=0, grid=5)  # the teacher does not mind


def test_fact_08_a_grid_belongs_to_its_weights_and_its_guidance(flow, grid, tmp_path):
    torch.manual_seed(1)
    other = Flow(MLP(NetSpec((2,), (LABEL,)), hidden=(48, 48)), conditions=Conditions((LABEL,), {"label": 0.1}))
    with pytest.raises(InputError, match="was fitted on a flow whose weights have the hash"):
        other.sample(2, grid=grid)
    with pytest.raises(InputError, match="was fitted on a flow"):
        make_segments(other, grid, 4, tmp_path / "s", cond={"label": torch.zeros(4, dtype=torch.long)})
    flow.save_pretrained(tmp_path / "flow")
    save_fitted(tmp_path / "flow", "bellman", grid)
    again = Flow.from_pretrained(tmp_path / "flow")
    found = again.fitted["bellman"]
    assert isinstance(found, BellmanGrid)
    assert torch.equal(found.costs, grid.costs)
    assert found.with_steps(7).times() == grid.with_steps(7).times()
    assert json.loads(json.dumps(found.described()))["path"] == grid.path()
    torch.testing.assert_close(again.sample(3, seed=0, label=1, grid=found), flow.sample(3, seed=0, label=1, grid=grid))
    again.double().float()
    assert found.costs.dtype == torch.float64
    with pytest.warns(UserWarning, match="fitted under the guidance none and is used under"):
        flow.sample(2, seed=0, label=0, grid=grid, guidance=CFG(2.0))


def test_the_guided_velocity_is_the_one_that_is_calibrated(flow):
    rules = (CFG(4.0),)
    guided = Flow(flow.network, conditions=flow.conditions, sampler=Sampler(Euler(), TimeGrid(4), None, rules))
    fit = FitBellman(3, TimeGrid(40), n=48)
    plain, bent = fit(flow, cond={"label": 1}), fit(guided, cond={"label": 1})
    assert not torch.allclose(plain.costs, bent.costs, rtol=0.05)
    assert plain.fitted_under is None
    assert "CFG" in str(bent.fitted_under)
    x0 = randn((48, 2), generator(3))
    label = torch.ones(48, dtype=torch.long)
    by_hand = bellman_costs(guided.bind(guidance=rules, label=label), x0, TimeGrid(40))
    torch.testing.assert_close(bent.costs[0, 40], by_hand[0, 40], rtol=0.3, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guided.sample(2, seed=0, label=0, grid=bent)
    with pytest.warns(UserWarning, match="is used under none"):
        guided.sample(2, seed=0, label=0, grid=bent, guidance=())


def test_starts_from_data_and_conditions_of_data(flow):
    data = Batch(torch.randn(20, 2, generator=generator(0)) * 0.2 + 2, {"label": torch.zeros(20, dtype=torch.long)})
    found = FitBellman(3, TimeGrid(20), n=30, from_data=True)(flow, data)
    assert found.samples == 30
    assert (found.costs[0] > 0).any()
    with pytest.raises(InputError, match="there are no data"):
        FitBellman(3, from_data=True)(flow)


def test_straightening_beats_the_grid_alone_and_distillation_is_given_the_same(flow, grid, segments):
    """Phase B at its own grid, and k-step reflow on the same trajectories at the uniform one, against the teacher."""
    options = {"steps": 400, "batch_size": 128, "lr": 1e-3, "device": "cpu"}
    label = torch.arange(400) % 2
    x0 = randn((400, 2), generator(9))
    end = flow.sample(400, x0=x0, label=label, solver=Euler(), grid=40)

    def error(one: Flow, **how) -> float:
        return float((one.sample(400, x0=x0, label=label, **how) - end).norm(dim=1).mean())

    straight = straighten(flow, segments, **options)
    alone = error(flow, solver=Euler(), grid=grid)
    assert error(straight) < 0.7 * alone
    pairs = StoredSegments(segments.folder, (0, 40))
    distilled = train(
        flow.network.__class__(flow.network.spec, hidden=(48, 48)),
        pairs,
        objective=KStep(3),
        transport=reflow_transport(flow.transport),
        start_from=flow,
        sampler=Sampler(Euler(), TimeGrid(3)),
        **options,
    )
    assert error(distilled) < error(flow, solver=Euler(), grid=3)
    with pytest.warns(UserWarning, match="on the grid"):
        assert error(straight, grid=3) > error(straight)  # bought at this grid alone
    with pytest.warns(UserWarning, match="on the grid"):
        assert error(straight, grid=40) > 5 * error(flow, solver=Euler(), grid=40) + 0.01


def test_low_rank_adapters_train_alone_and_merge(flow, segments, tmp_path):
    pytest.importorskip("peft")
    from advect.networks import LoRA

    plain = MLP(flow.network.spec, hidden=(48, 48))
    plain.load_state_dict(flow.network.state_dict())
    x, t, label = randn((5, 2), generator(0)), torch.full((5,), 0.3), torch.zeros(5, dtype=torch.long)
    before = plain(x, t, label=label)
    worn = LoRA(plain, rank=4, alpha=1.0)
    torch.testing.assert_close(worn(x, t, label=label), before)  # B is zero at the start
    names = {name for name, p in worn.named_parameters() if p.requires_grad}
    assert names
    assert all("lora_" in name for name in names)
    assert len(names) == 2 * 3  # A and B of three linear layers
    with torch.no_grad():
        for name, p in worn.named_parameters():
            if "lora_B" in name:
                p.normal_()
    layer = dict(worn.network.named_modules())["head"]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    merged = worn.merged()
    assert set(merged.state_dict()) == set(flow.network.state_dict())
    torch.testing.assert_close(merged.head.weight, flow.network.head.weight + 0.25 * b @ a)
    torch.testing.assert_close(merged(x, t, label=label), worn(x, t, label=label), rtol=1e-4, atol=1e-5)
    assert set(worn.adapter()) == {name.removeprefix("network.") for name in names}

    out = straighten(flow, segments, rank=4, steps=30, batch_size=64, lr=1e-2, device="cpu", folder=tmp_path / "run")
    assert type(out.network) is MLP
    assert not torch.equal(out.network.head.weight, flow.network.head.weight)
    rank = torch.linalg.matrix_rank((out.network.layers[1].weight - flow.network.layers[1].weight).double(), atol=1e-5)
    assert rank <= 4
    kept = Flow.from_pretrained(tmp_path / "run" / "flow")  # the run itself keeps base and adapters apart
    assert isinstance(kept.network, LoRA)
    torch.testing.assert_close(kept.sample(3, seed=0, label=0), out.sample(3, seed=0, label=0), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="rank is 0"):
        LoRA(plain, rank=0)


def test_data_without_times_are_refused():
    with pytest.raises(InputError, match="the data bring no segments"):
        SegmentRegression()(Networks(velocity), Batch(ROWS, x0=ROWS))
    transport = straight_transport(Transport(), [0.0, 0.4, 1.0])
    assert transport.only_grid == (0.0, 0.4, 1.0)
    assert CustomGrid(transport.only_grid).steps == 2
