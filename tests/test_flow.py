"""The artefact: numbering of samples, conditions, counts, and saving."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import advect
from advect import Flow, InputError, NetSpec, Run, Sampler, Transport
from advect.conditions import ClassLabel, Conditions, Vector
from advect.guidance import CFG
from advect.networks import Network
from advect.randomness import NumberedGenerator, rand, randint, randn, randn_like
from advect.solvers import Context, DormandPrince, Euler, EulerMaruyama, Heun, Solver
from advect.sources import Gaussian
from advect.times import LogSNRGrid, TimeGrid


def exact_velocity(x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
    """The straight path between N(0, 1) and N(2, 1/4): v of the conditional expectation, in closed form."""
    mean, std = 2.0, 0.5
    variance = (t * std) ** 2 + (1 - t) ** 2
    return mean + (t * std**2 - (1 - t)) / variance * (x - t * mean)


class Tilt(Network):
    """v = W x + t + a number per class: small, conditional, with weights."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__(spec)
        self.linear = nn.Linear(spec.shape[0], spec.shape[0])
        self.classes = nn.Embedding(spec.conditions[0].width + 1, spec.shape[0]) if spec.conditions else None

    def forward(self, x: Tensor, *times: Tensor, **cond: Tensor) -> Tensor:
        out = self.linear(x.to(self.dtype)).to(x.dtype) + times[0]
        return out if self.classes is None else out + self.classes(cond["label"])


@dataclass(frozen=True)
class Jitter(Solver):
    """Euler with noise in every step: a stand-in for a stochastic solver."""

    def step(self, f, x, r, t, carry, run: Run, context: Context):
        return x + (t - r) * f(x, r) + 0.1 * randn_like(x, run.generator), None


def conditional(drop: float = 0.1) -> Flow:
    torch.manual_seed(0)
    label = ClassLabel(3)
    conditions = Conditions((label,), {"label": drop} if drop else {})
    return Flow(Tilt(NetSpec((2,), (label,))), conditions=conditions, sampler=Sampler(Euler(), TimeGrid(4)))


# Sample i depends on the seed and on i alone


@pytest.mark.parametrize("solver", [Heun(), Jitter()])
@pytest.mark.parametrize(("first", "n", "batch_size"), [(0, 200, 512), (0, 200, 7), (63, 70, 64), (130, 1, 1)])
def test_a_sample_depends_on_seed_and_number_alone(solver, first, n, batch_size):
    flow = Flow(exact_velocity, shape=(2,))
    whole = flow.sample(200, seed=3, solver=solver, steps=4)
    part = flow.sample(n, seed=3, first=first, batch_size=batch_size, solver=solver, steps=4)
    torch.testing.assert_close(part, whole[first : first + n], atol=1e-6, rtol=0)
    assert not torch.allclose(part, flow.sample(n, seed=4, first=first, solver=solver, steps=4))
    assert len(whole.unique(dim=0)) == 200


@pytest.mark.parametrize("draw", [randn, rand, lambda shape, g: randint(10**6, shape, g)])
def test_numbered_draws_do_not_depend_on_the_cut(draw):
    def drawn(first: int, count: int) -> Tensor:
        g = NumberedGenerator(0, "x", first=first, count=count)
        return torch.stack([draw((count, 3), g), draw((count, 3), g)])

    whole = drawn(0, 150)
    pieces = torch.cat([drawn(0, 10), drawn(10, 100), drawn(110, 40)], 1)
    assert torch.equal(pieces, whole)
    assert len(whole.flatten().unique()) == whole.numel()


def test_without_a_seed_the_generator_or_torch_decides():
    flow = Flow(exact_velocity, shape=(2,))
    torch.manual_seed(0)
    a = flow.sample(5, steps=2)
    torch.manual_seed(0)
    assert torch.equal(a, flow.sample(5, steps=2))
    b = flow.sample(5, generator=torch.Generator().manual_seed(1), steps=2)
    assert torch.equal(b, flow.sample(5, run=Run(torch.Generator().manual_seed(1)), steps=2))


def test_samples_of_the_exact_field_have_the_moments_of_the_data():
    x = Flow(exact_velocity, shape=(1,)).sample(20_000, seed=0, steps=50, batch_size=20_000)
    assert abs(x.mean() - 2.0) < 5 * 0.5 / 20_000**0.5
    assert abs(x.std() - 0.5) < 5 * 0.5 / 40_000**0.5


# Options and counts


def test_options_reach_the_solver_and_calls_are_those_of_one_trajectory():
    flow = Flow(exact_velocity, shape=(2,))
    run = Run()
    flow.sample(10, seed=0, run=run, batch_size=4, solver=Heun(), steps=6)
    assert run.calls["model"] == 12
    assert run.rows["model"] == 120
    flow.sample(10, seed=0, run=run, grid=[0.0, 0.5, 1.0], solver=Euler())
    assert run.nfe == 14
    flow.sample(10, seed=0, run=run, grid=LogSNRGrid(9), steps=3, solver=Euler())
    assert run.nfe == 17
    with pytest.raises(InputError, match="give one of them"):
        flow.sample(2, grid=5, steps=3)
    x = flow.sample(3, seed=0, steps=2, project=lambda x, t: x.clamp(max=0.0))
    assert (x <= 0).all()


def test_start_states_and_sources_can_be_given():
    flow = Flow(exact_velocity, shape=(2,))
    x0 = torch.randn(9, 2)
    a = flow.sample(9, x0=x0, batch_size=4)
    torch.testing.assert_close(a, flow.sample(9, x0=x0), atol=1e-6, rtol=0)
    torch.testing.assert_close(a, Heun()(exact_velocity, x0, 25), atol=1e-6, rtol=0)
    assert torch.equal(
        flow.sample(4, seed=0, source=Gaussian(std=2.0), steps=1, solver=Euler()),
        flow.sample(4, x0=2 * flow.sample(4, seed=0, grid=[0.0]), steps=1, solver=Euler()),
    )
    with pytest.raises(InputError, match=r"x0 has shape \(4, 3\)"):
        flow.sample(4, x0=torch.zeros(4, 3))


def test_a_recorded_trajectory_holds_all_samples():
    flow = Flow(exact_velocity, shape=(2,))
    t = flow.sample(7, seed=0, batch_size=3, steps=5, record=True)
    assert t.states.shape == (6, 7, 2)
    assert t.velocities.shape == (5, 7, 2)
    torch.testing.assert_close(t.states[-1], flow.sample(7, seed=0, steps=5), atol=1e-6, rtol=0)


# The way back, and densities


def normal_log_density(x: Tensor) -> Tensor:
    """log N(x; 2, 1/4), summed over coordinates: what `exact_velocity` ends in."""
    return (-0.5 * ((x - 2.0) / 0.5) ** 2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


def test_encoding_undoes_sampling():
    flow = Flow(exact_velocity, shape=(2,))
    x0 = torch.randn(50, 2, dtype=torch.float64).float()
    x = flow.sample(50, x0=x0, solver=DormandPrince(rtol=1e-6, atol=1e-6))
    torch.testing.assert_close(flow.encode(x), x0, atol=1e-4, rtol=0)
    torch.testing.assert_close(flow.encode(x, solver=Heun(), grid=200), x0, atol=1e-3, rtol=0)
    with pytest.raises(InputError, match="draws noise"):
        flow.encode(x, solver=EulerMaruyama())


@pytest.mark.parametrize("how", [{}, {"solver": Heun(), "grid": 200}, {"divergence": "hutchinson"}])
def test_the_density_is_the_closed_form(how):
    x = 2 + 0.5 * torch.randn(20, 2)  # the field is a multiple of x, so that one random probe is exact too
    value = Flow(exact_velocity, shape=(2,)).log_prob(x, **how)
    torch.testing.assert_close(value, normal_log_density(x), atol=1e-3, rtol=0)


def test_the_density_is_in_data_units():
    codec = advect.codecs.Standardize()
    codec.shift, codec.scale = torch.tensor([1.0, -1.0]), torch.tensor([3.0, 0.1])
    flow = Flow(exact_velocity, shape=(2,), codec=codec)
    x = codec.decode(2 + 0.5 * torch.randn(20, 2))
    expected = normal_log_density(codec.encode(x)) - math.log(3.0) - math.log(0.1)
    torch.testing.assert_close(flow.log_prob(x), expected, atol=1e-3, rtol=0)


def test_gradients_reach_data_and_weights():
    flow = conditional()
    x = torch.randn(3, 2, requires_grad=True)
    flow.log_prob(x, label=1, solver=Heun(), grid=3).sum().backward()
    assert x.grad.abs().sum() > 0
    assert flow.network.linear.weight.grad.abs().sum() > 0


def test_the_seed_reaches_the_probe_whoever_counts():
    slope = torch.tensor([[0.3, 1.0], [0.5, -0.2]])  # not symmetric about its diagonal: a probe is not exact
    flow, x = Flow(lambda x, t: x @ slope, shape=(2,)), torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    how = {"divergence": "hutchinson", "solver": Heun(), "grid": 4}
    run = Run()
    counted = flow.log_prob(x, seed=3, run=run, **how)
    assert run.nfe == 8
    assert torch.equal(counted, flow.log_prob(x, seed=3, **how))
    assert not torch.equal(counted, flow.log_prob(x, seed=4, **how))
    drawn = [flow.log_prob(x, run=Run(torch.Generator().manual_seed(1)), **how) for _ in range(2)]
    assert torch.equal(*drawn)


def test_bits_per_dim_of_uniform_levels_is_their_entropy():
    """A flow whose density is close to uniform over the levels gives log2(levels); here N(0, s) is known exactly."""
    flow = Flow(lambda x, t: 0 * x, shape=(1, 8, 8))
    levels = 17
    pixels = torch.randint(levels, (200, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    x = pixels / (levels - 1) * 2 - 1
    bits = flow.bits_per_dim(x, levels=levels).mean()
    # E[x^2] of U(-1, 1 + 2/(levels-1)), the dequantised data
    a, b = -1.0, 1.0 + 2 / (levels - 1)
    second = (b**3 - a**3) / (3 * (b - a))
    expected = (0.5 * second + 0.5 * math.log(2 * math.pi)) / math.log(2) + math.log2((levels - 1) / 2)
    assert abs(bits - expected) < 0.02


# Conditions


def test_one_condition_value_serves_all_and_a_missing_one_is_null():
    flow = conditional()
    x = flow.sample(4, seed=0, label=2)
    assert torch.equal(x, flow.sample(4, seed=0, label=[2, 2, 2, 2]))
    assert torch.equal(flow.sample(4, seed=0), flow.sample(4, seed=0, label=3))
    mixed = flow.sample(4, seed=0, label=torch.tensor([0, 1, 2, 0]), batch_size=3)
    torch.testing.assert_close(mixed[2], x[2])


def test_conditions_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="there are 3 classes"):
        conditional().sample(2, label=7)
    with pytest.raises(InputError, match="no condition is called 'lable'"):
        conditional().sample(2, lable=1)
    with pytest.raises(InputError, match="label has 3 values for 2 samples"):
        conditional().sample(2, label=[0, 1, 2])
    with pytest.raises(InputError, match="trained without dropping it: pass label="):
        conditional(drop=0).sample(2)
    with pytest.raises(InputError, match=r"'step'.* is neither an option of sample nor a condition"):
        Flow(Tilt(NetSpec((2,)))).sample(2, step=3)
    with pytest.raises(InputError, match="shape is not given"):
        Flow(exact_velocity)


def test_a_vector_condition_is_one_for_all_or_one_each():
    seen = {}

    def field(x: Tensor, t: Tensor, vector: Tensor) -> Tensor:
        seen["vector"] = vector
        return x

    flow = Flow(field, shape=(1,), conditions=Conditions((Vector(2),), {"vector": 0.5}))
    flow.sample(3, vector=torch.tensor([1.0, 2.0]), steps=1)
    assert torch.equal(seen["vector"], torch.tensor([[1.0, 2.0]]).expand(3, 2))
    flow.sample(3, steps=1)
    assert torch.equal(seen["vector"], torch.zeros(3, 2))
    with pytest.raises(InputError, match="vector is 'red': give a number, or a list or tensor of them"):
        flow.sample(3, vector="red", steps=1)
    with pytest.raises(InputError, match=r"vector: expected shape \(B, 2\), got \(3, 1\)"):
        flow.sample(3, vector=0.5, steps=1)
    flow = Flow(field, shape=(1,), conditions=Conditions((Vector(1),), {"vector": 0.5}))
    for number in (0.5, "0.5", [0.5]):
        flow.sample(3, vector=number, steps=1)
        assert torch.equal(seen["vector"], torch.full((3, 1), 0.5))


def test_dropout_is_off_while_sampling_and_back_afterwards():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9))
    net[0].eval()
    flow = Flow(lambda x, t: net(x), shape=(2,))
    flow.inner = net
    assert torch.equal(flow.sample(3, seed=0), flow.sample(3, seed=0))
    assert net[1].training
    assert not net[0].training


@pytest.mark.parametrize(("weights", "state"), [(torch.float64,) * 2, (torch.bfloat16, torch.float32)])
def test_the_state_is_float32_or_float64_whatever_the_network_computes_in(weights, state):
    flow = Flow(Tilt(NetSpec((2,)))).to(weights)
    assert flow.sample(2, seed=0, steps=2).dtype == state


def test_a_plain_module_in_half_precision_is_sampled_in_float32():
    class Net(nn.Linear):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return super().forward(x).to(x.dtype)

    flow = Flow(Net(2, 2), shape=(2,)).to(torch.bfloat16)
    assert flow.sample(2, seed=0, steps=2).dtype == torch.float32


def test_guidance_takes_the_null_branch_and_counts_one_call_of_twice_the_rows():
    flow, run = conditional(), Run()
    guided = flow.sample(4, seed=0, label=1, guidance=CFG(3.0), run=run)
    assert run.calls["model"] == 4
    assert run.rows["model"] == 32
    assert torch.equal(flow.sample(4, seed=0, label=1, guidance=()), flow.sample(4, seed=0, label=1))
    x, null = flow.sample(4, seed=0, label=1, steps=1), flow.sample(4, seed=0, steps=1)
    torch.testing.assert_close(flow.sample(4, seed=0, label=1, steps=1, guidance=CFG(3.0)), null + 3 * (x - null))
    assert not torch.equal(guided, flow.sample(4, seed=0, label=1))


# Saving


def test_a_saved_flow_samples_the_same(tmp_path):
    flow = conditional()
    flow.record = {"seed": 7, "class_names": ["a", "b", "c"]}
    flow.save_pretrained(tmp_path / "flow")
    back = Flow.from_pretrained(tmp_path / "flow", trust_remote_code=True)
    assert torch.equal(back.sample(5, seed=1, label=1), flow.sample(5, seed=1, label=1))
    assert back.sampler == flow.sampler
    assert back.conditions == flow.conditions
    assert back.record == flow.record
    described = json.loads((tmp_path / "flow" / "flow.json").read_text())
    assert described["format"] == 1
    assert described["score_refusal"] is None
    assert described["versions"]["torch"] == torch.__version__


def test_the_sentence_on_the_score_is_kept(tmp_path):
    flow = conditional()
    flow.transport = Transport(inherited_refusal="the teacher's pairs tie x0 to x1")
    flow.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "flow.json").read_text())["score_refusal"] == "the teacher's pairs tie x0 to x1"
    assert Flow.from_pretrained(tmp_path, trust_remote_code=True).score_refusal == "the teacher's pairs tie x0 to x1"


def test_classes_outside_advect_are_not_imported_without_trust(tmp_path):
    conditional().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="class outside advect: if you trust its author, pass trust_remote_code=True"):
        Flow.from_pretrained(tmp_path)
    text = (tmp_path / "flow.json").read_text()
    (tmp_path / "flow.json").write_text(text.replace("advect.Transport", "antigravity.Transport"))
    with pytest.raises(InputError, match="class outside advect"):
        Flow.from_pretrained(tmp_path)


def test_a_plain_module_is_saved_and_asked_for_when_loading(tmp_path):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.linear(x)

    flow = Flow(Net(), shape=(2,))
    flow.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="not a part of advect and cannot be rebuilt from a file: make one and pass"):
        Flow.from_pretrained(tmp_path)
    back = Flow.from_pretrained(tmp_path, network=Net())
    assert torch.equal(back.sample(2, seed=0), flow.sample(2, seed=0))
    with pytest.raises(InputError, match=r"model\.safetensors does not fit the networks"):
        Flow.from_pretrained(tmp_path, network=nn.Linear(3, 3))
    with pytest.raises(InputError, match="plain function, which has no weights to save"):
        Flow(exact_velocity, shape=(2,)).save_pretrained(tmp_path)


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "bit flipped":
        data[-1] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["truncated", "bit flipped"])
def test_damaged_weights_are_named(tmp_path, how):
    conditional().save_pretrained(tmp_path)
    damage(tmp_path / "model.safetensors", how)
    with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
        Flow.from_pretrained(tmp_path, trust_remote_code=True)


def test_a_missing_broken_or_newer_description_is_named(tmp_path):
    with pytest.raises(InputError, match=r"flow\.json does not exist"):
        Flow.from_pretrained(tmp_path)
    conditional().save_pretrained(tmp_path)
    file = tmp_path / "flow.json"
    good = json.loads(file.read_text())
    for change, sentence in (
        ({"format": 99}, "has format 99, and this advect reads up to 1: install a newer advect"),
        ({"format": None}, "has no format number"),
        ({"flow": {}}, "lacks what a flow needs"),
        ({"hashes": {}}, "lacks what a flow needs"),
    ):
        file.write_text(json.dumps(good | change))
        with pytest.raises(InputError, match=sentence):
            Flow.from_pretrained(tmp_path, trust_remote_code=True)
    file.write_text("{")
    with pytest.raises(InputError, match="is not valid JSON"):
        Flow.from_pretrained(tmp_path)


def test_fitted_parts_are_added_without_touching_the_rest(tmp_path):
    from advect.codecs import Standardize
    from advect.saving import save_fitted

    flow = conditional()
    flow.save_pretrained(tmp_path)
    before = (tmp_path / "flow.json").read_bytes()
    save_fitted(tmp_path, "grid", TimeGrid(3))
    save_fitted(tmp_path, "scale", Standardize().fit(torch.randn(10, 2)))
    assert (tmp_path / "flow.json").read_bytes() == before
    back = Flow.from_pretrained(tmp_path, trust_remote_code=True)
    assert back.fitted["grid"] == TimeGrid(3)
    assert back.fitted["scale"].shift.shape == (2,)
    assert back.to("meta").fitted["scale"].shift.is_meta, "they move along"
    damage(next((tmp_path / "fitted" / "scale").glob("tensors-*")), "truncated")
    with pytest.raises(InputError, match=r"tensors-\w+\.safetensors is damaged"):
        Flow.from_pretrained(tmp_path, trust_remote_code=True)
    with pytest.raises(InputError, match="letters, digits"):
        save_fitted(tmp_path, "../x", TimeGrid(3))


def test_the_weights_hash_covers_the_networks_alone():

    flow = conditional()
    first = flow.weights_hash()
    flow.codec = advect.codecs.Standardize()
    assert flow.weights_hash() == first
    with torch.no_grad():
        flow.network.linear.weight[0, 0] += 1e-6
    assert flow.weights_hash() != first
