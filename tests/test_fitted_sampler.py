"""The default sampler of a flow: its tensors, the weights its parts were fitted on, and the kind of model it takes."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

import advect
from advect.codecs import Standardize
from advect.couplings import GibbsWeights
from advect.errors import InputError
from advect.flow import Flow
from advect.inverse import CalibratedWeights
from advect.networks import MLP, NetSpec
from advect.parts import modules_in
from advect.sampler import Sampler
from advect.saving import save_fitted, save_sampler
from advect.solvers import Euler, EulerMaruyama, FlowMapJumps
from advect.sources import FittedMixture, FromData, Gaussian, NormAligned, PrunedSource, StudentT
from advect.times import TimeGrid
from advect.transport import Transport


class FoundSource(FromData):
    """A source that was found by running a flow."""

    def __init__(self, size: int = 3, shape: tuple[int, ...] = (2,), fitted_on: str | None = None) -> None:
        super().__init__(size, shape)
        self.fitted_on = fitted_on


def flow(times: int = 1) -> Flow:
    torch.manual_seed(0)
    return Flow(MLP(NetSpec((2,), times=times), "XS"))


def test_the_tensors_of_a_sampler_are_saved_and_move_along(tmp_path):
    made = flow()
    made.sampler = Sampler(Euler(), TimeGrid(3), source=FromData().fit(torch.randn(5, 2)))
    made.save_pretrained(tmp_path)
    again = Flow.from_pretrained(tmp_path)
    assert torch.equal(made.sample(7, seed=1), again.sample(7, seed=1))
    again.to("meta")
    assert isinstance(again.sampler.source, FromData)
    assert again.sampler.source.samples.is_meta
    assert next(flow().to("meta", torch.bfloat16).parameters()).dtype == torch.bfloat16, "no values, no identity"


def test_numbers_that_were_found_keep_their_digits_when_a_flow_is_cast():
    """half() is for weights; a scale, an axis or a table of errors that goes through it comes out of it as it was."""
    x1 = torch.randn(40, 2) * 3.14159
    made = flow()
    made.transport = Transport(NormAligned().fit(x1), GibbsWeights(eps=1.0))
    made.transport.coupling.fit(torch.randn(40, 2), x1)
    made.codec = Standardize().fit(x1)
    made.sampler = Sampler(source=PrunedSource.of(torch.tensor([[0.6, 0.8]]), acceptance=1 / 3))
    made.fitted["mixture"] = FittedMixture(2).fit(x1)
    made.fitted["weights"] = CalibratedWeights().fit(torch.rand(7))
    parts = [made.transport, made.codec, *modules_in([made.sampler, *made.fitted.values()])]
    before = [{name: value.clone() for name, value in part.state_dict().items()} for part in parts]
    assert sum(map(len, before)) > 10
    made.half()
    assert isinstance(made.network, MLP)
    assert made.network.head.weight.dtype == torch.float16
    made.double()
    for part, numbers in zip(parts, before, strict=True):
        for name, value in part.state_dict().items():
            assert value.dtype == numbers[name].dtype, name
            assert torch.equal(value, numbers[name]), name
    assert made.sample(3, seed=0).dtype == torch.float64


def test_another_default_sampler_leaves_the_weights_alone(tmp_path):
    made = flow()
    made.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    for _ in range(2):
        save_sampler(tmp_path, Sampler(Euler(), TimeGrid(2), source=FromData().fit(torch.randn(5, 2))))
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert len(list(tmp_path.glob("sampler-*"))) == 1, "the tensors of the sampler before are gone"
    assert Flow.from_pretrained(tmp_path).sampler.grid == TimeGrid(2)
    save_sampler(tmp_path, Sampler())
    assert not list(tmp_path.glob("sampler-*"))
    assert Flow.from_pretrained(tmp_path).sampler == Sampler()


def test_damaged_tensors_of_a_sampler_are_refused(tmp_path):
    made = flow()
    made.sampler = Sampler(source=FromData().fit(torch.randn(5, 2)))
    made.save_pretrained(tmp_path)
    next(tmp_path.glob("sampler-*")).write_bytes(b"broken")
    with pytest.raises(InputError, match="damaged"):
        Flow.from_pretrained(tmp_path)


def test_a_part_fitted_on_other_weights_is_refused():
    made = flow()
    own = FoundSource(fitted_on=made.weights_hash())
    made.sample(2, seed=0, source=own)
    with torch.no_grad():
        next(made.parameters()).mul_(2)
    with pytest.raises(InputError, match="fitted on a flow whose weights"):
        made.sample(2, seed=0, source=own)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_flow_that_is_cast_is_the_same_flow_until_it_is_trained(dtype, tmp_path):
    """Its parts serve it in every type, also back again and from a file; weights that were changed since are others."""
    made = flow()
    own = FoundSource(fitted_on=made.weights_hash())
    for cast in (dtype, torch.float32):
        made.to(dtype=cast)
        made.sample(2, seed=0, source=own)
        made.but(sampler=Sampler(source=own)).sample(2, seed=0)
        made.save_pretrained(tmp_path)
        again = Flow.from_pretrained(tmp_path)
        again.sample(2, seed=0, source=own)
        again.double().sample(2, seed=0, source=own)
    with torch.no_grad():
        next(made.parameters()).view(-1)[0].add_(1e-3)
    for changed in (made, made.to(dtype=dtype)):
        with pytest.raises(InputError, match="fitted on a flow whose weights"):
            changed.sample(2, seed=0, source=own)
    made.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="fitted on a flow whose weights"):
        Flow.from_pretrained(tmp_path).sample(2, seed=0, source=own)


def test_a_part_within_a_part_is_asked_for_its_weights_too():
    made, mixture = flow(), advect.sources.Mixture((FoundSource(fitted_on="0" * 64),))
    with pytest.raises(InputError, match="fitted on a flow whose weights"):
        made.sample(2, seed=0, source=mixture)


def test_noise_on_the_way_asks_for_the_source_of_the_training():
    """The velocity means a score by the source it was trained from; another start follows the same ODE alone."""
    made, solver, grid = flow(), EulerMaruyama(), TimeGrid(4, 0.01, 0.99)
    made.sample(3, seed=0, solver=solver, grid=grid, source=Gaussian())
    made.sample(3, seed=0, source=Gaussian(0.5))
    with pytest.raises(InputError, match="samples start from Gaussian, and the velocity was trained from Gaussian"):
        made.sample(3, seed=0, solver=solver, grid=grid, source=Gaussian(0.5))


def test_a_flow_map_jumps_once_by_default_and_refuses_solvers_of_fields():
    made = flow(times=2)
    assert made.kind == "flow map"
    assert made.sampler == Sampler(FlowMapJumps(), TimeGrid(1))
    run = advect.Run()
    made.sample(4, seed=0, run=run)
    assert run.nfe == 1
    with pytest.raises(InputError, match="solver is Euler, which integrates a field, but the network is a flow map"):
        made.sample(4, seed=0, solver=Euler(), steps=4)
    with pytest.raises(InputError, match="no way back"):
        made.encode(torch.zeros(2, 2))
    with pytest.raises(InputError, match="take Heun"):
        flow().sample(4, seed=0, solver=FlowMapJumps())


def test_the_hash_of_the_weights_is_the_one_in_the_file(tmp_path):
    made = flow()
    made.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "flow.json").read_text())["hashes"]["weights"] == made.weights_hash()


def test_a_fitted_part_is_replaced_as_a_whole(tmp_path):
    """Its tensors are named by their hash, so a stop before part.json is written leaves the part before."""
    made = flow()
    made.fitted["found"] = FromData().fit(torch.randn(5, 2))
    made.save_pretrained(tmp_path)
    described = (tmp_path / "fitted" / "found" / "part.json").read_bytes()
    save_fitted(tmp_path, "found", FromData().fit(torch.randn(7, 2)))
    found = Flow.from_pretrained(tmp_path).fitted["found"]
    assert isinstance(found, FromData)
    assert found.size == 7
    assert len(list((tmp_path / "fitted" / "found").glob("tensors-*"))) == 1
    assert (tmp_path / "fitted" / "found" / "part.json").read_bytes() != described


def test_a_flow_saved_over_an_older_one_leaves_none_of_its_parts(tmp_path):
    """Nor is a file of somebody else's touched; a part that it has too stays as it is in the new one."""
    made = flow()
    made.sampler = Sampler(source=FromData().fit(torch.randn(5, 2)))
    made.fitted = {"old": FromData().fit(torch.randn(5, 2)), "grid": TimeGrid(3), "both": TimeGrid(4)}
    made.save_pretrained(tmp_path)
    (tmp_path / "fitted" / "grid" / "notes.txt").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    newer = flow()
    newer.fitted["both"] = TimeGrid(5)
    newer.save_pretrained(tmp_path)
    assert Flow.from_pretrained(tmp_path).fitted == {"both": TimeGrid(5)}
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    ours = {"flow.json", "model.safetensors", "fitted/both/part.json"}
    assert files == ours | {"fitted/grid/notes.txt", "notes.txt"}
    flow().save_pretrained(tmp_path)
    assert not (tmp_path / "fitted" / "both").exists()


def test_a_save_that_is_stopped_leaves_no_whole_folder_with_parts_of_another_flow(tmp_path, monkeypatch):
    made = flow()
    made.fitted = {"old": TimeGrid(3)}
    made.save_pretrained(tmp_path)
    other = Flow(MLP(NetSpec((2,)), "XS"))
    with torch.no_grad():
        next(other.parameters()).add_(1.0)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("advect.saving._save_sampler_tensors", stop)
    with pytest.raises(KeyboardInterrupt):
        other.save_pretrained(tmp_path)
    monkeypatch.undo()
    with pytest.raises(InputError, match="damaged or of another save"):
        Flow.from_pretrained(tmp_path)
    other.save_pretrained(tmp_path)
    assert Flow.from_pretrained(tmp_path).fitted == {}


def test_a_start_of_another_family_is_warned_of_and_one_made_for_the_source_is_not():
    made = flow()
    made.transport = Transport(StudentT(8.0))
    axes = torch.tensor([[1.0, 0.0]])
    for source in (Gaussian(), NormAligned().fit(torch.randn(9, 2)), PrunedSource.of(axes), StudentT(None)):
        with pytest.warns(UserWarning, match=rf"samples start from {type(source).__name__}, and the velocity was"):
            made.sample(2, seed=0, source=source)
    fitting = (None, StudentT(16.0), PrunedSource.of(axes, source=StudentT(8.0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in fitting:
            made.sample(2, seed=0, source=source)
        for source in (*fitting, FromData().fit(torch.randn(5, 2)), Gaussian(0.5)):
            flow().sample(2, seed=0, source=source)
