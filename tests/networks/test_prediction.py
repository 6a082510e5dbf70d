"""A network of any kind worn as a field."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import Run, bind
from advect.interpolants import KINDS, VE, Cosine, EDMPreconditioning, Linear
from advect.networks import MLP, NetSpec, Network, Prediction
from advect.oracles import reference_mixture
from advect.parts import build, config_of
from advect.sources import Gaussian, Source


class Exact(Network):
    """Says exactly what a network of its kind is to say about the reference mixture."""

    def __init__(self, spec: NetSpec, kind: str, cosine: bool, scale: bool = False):
        super().__init__(spec)
        self.kind, self.path = kind, Cosine() if cosine else Linear()
        self.seen: list[Tensor] = []

    def forward(self, x, *times, features=(), **cond):
        t = times[0]
        self.seen.append(x)
        if self.kind in ("F", "trigflow"):  # undo what the wrapper feeds
            a, g = (c.reshape(-1, 1) if c.ndim else c for c in (self.path.alpha(t), self.path.sigma(t)))
            x = x * torch.hypot(SOURCE.std * g, 0.5 * a) + SOURCE.mean * g if self.kind == "F" else x * SOURCE.std
        on = reference_mixture().on(self.path, SOURCE)
        out = self.path.convert(on.velocity(x, t), x, t, "v", self.kind, SOURCE)  # pyright: ignore
        return (out, {"x": x}) if features else out


SOURCE = Gaussian(std=0.8, mean=0.3)
SPEC = NetSpec((2,))
X = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cosine", [False, True])
def test_every_kind_answers_every_question(kind, cosine):
    path = Cosine() if cosine else Linear()
    field = Prediction(Exact(SPEC, kind, cosine), kind, path, SOURCE)
    on = reference_mixture().on(path, SOURCE)
    bound = bind(field, Run())
    for t in (torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)):
        for f in (field, bound):
            torch.testing.assert_close(f(X, t), on.velocity(X, t))
            torch.testing.assert_close(f.x1(X, t), on.denoiser(X, t))
            torch.testing.assert_close(f.x0(X, t), on.source_mean(X, t))
            torch.testing.assert_close(f.score(X, t), on.score(X, t))
    v, features = field(X, t, features=("x",))
    torch.testing.assert_close(v, on.velocity(X, t))
    assert set(features) == {"x"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_of_a_pair_converts_to_the_pair(kind):
    g = torch.Generator().manual_seed(1)
    x0, x1 = (torch.randn(5, 2, dtype=torch.float64, generator=g) for _ in range(2))
    t = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    field = Prediction(Exact(SPEC, kind, True), kind, Cosine(), SOURCE)
    x = Cosine().sample(x0, x1, t).x
    pair = Cosine().pair(field.target(x0, x1, t), x, t, kind, SOURCE)
    torch.testing.assert_close(pair.x1, x1)
    torch.testing.assert_close(pair.x0, x0)


def test_calls_are_counted_once_whatever_is_asked():
    run, field = Run(), Prediction(MLP(SPEC, size="XS"), "x1")
    bound = bind(field, run, role="predictor")
    x = torch.randn(7, 2)
    bound(x, 0.3)
    bound.x1(x, 0.3)
    assert run.calls == {"predictor": 2}
    assert run.rows == {"predictor": 14}
    torch.testing.assert_close(bound(x, 0.3), field(x, torch.tensor(0.3)))


def test_an_edm_network_is_fed_unit_variance():
    network = Exact(SPEC, "F", False)
    path = VE(0.01, 50.0)
    field = Prediction(network, "F", path, data_std=0.7)
    g = torch.Generator().manual_seed(0)
    x1, x0 = 0.7 * torch.randn(50_000, 2, generator=g), torch.randn(50_000, 2, generator=g)
    for t in (0.0, 0.5, 1.0):
        x = path.sample(x0, x1, torch.tensor(t)).x
        assert field.scaled(x, t).std().item() == pytest.approx(1.0, abs=0.01)
        torch.testing.assert_close(field.scaled(x, t), EDMPreconditioning(path, 0.7).network_input(x, t))


def test_it_is_a_part_with_the_spec_of_its_network():
    field = Prediction(MLP(SPEC, size="XS"), "x0", Cosine())
    again = build(config_of(field))
    assert again.spec == SPEC
    again.load_state_dict(field.state_dict())
    x, t = torch.randn(3, 2), torch.tensor(0.2)
    assert torch.equal(again(x, t), field(x, t))


def test_a_score_of_a_source_that_is_not_gaussian_is_refused():
    class Uniform(Source):
        def sample(self, shape, cond=None, generator=None, *, rows=None, x1=None, dtype=None, device=None):
            raise NotImplementedError  # never drawn from: the test asks what is refused of such a source

    with pytest.raises(InputError, match="Uniform, which is not Gaussian"):
        Prediction(MLP(SPEC, size="XS"), "score", source=Uniform())
    field = Prediction(MLP(SPEC, size="XS"), "v", source=Uniform())
    with pytest.raises(InputError, match="Uniform, which is not Gaussian"):
        field.score(torch.zeros(1, 2), torch.tensor(0.5))
    with pytest.raises(InputError, match="the prediction kind is 'eps'"):
        Prediction(MLP(SPEC, size="XS"), "eps")  # pyright: ignore[reportArgumentType]
