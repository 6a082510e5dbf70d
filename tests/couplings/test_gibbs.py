"""Gibbs weights: what they refuse, how they are fitted, kept and clipped, and where the elbow of the tilt is."""

from __future__ import annotations

import math

import pytest
import torch

import advect
from advect import Batch, Flow, InputError, NetSpec, Transport
from advect.couplings import GibbsWeights
from advect.couplings.tilt import effective_share, elbow, elbow_curve, spread, tilt_curve, tilt_variance
from advect.data import EightGaussians
from advect.diagnostics import tilt_of
from advect.fitting import FitGibbsScale
from advect.networks import MLP
from advect.objectives import FlowMatching, Networks


def _ends(n: int = 2000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=g), EightGaussians().draw(n, g)


def _fitted(n: int = 2000, **arguments: object) -> GibbsWeights:
    coupling = GibbsWeights(**arguments)
    coupling.fit(*_ends(n), generator=torch.Generator().manual_seed(0))
    return coupling


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"eps": 0.0}, "eps is 0.0: the scale of the weights is above 0"),
        ({"eps": float("nan")}, "eps is nan"),
        ({"kappa": -1.0}, "kappa is -1.0"),
        ({"eps": 1.0, "kappa": 1.0}, "give one of them"),
        ({"cost": "cube"}, "choose 'norm' or 'squared'"),
        ({"normalise": "softmax"}, "choose 'fixed' or 'batch'"),
        ({"clip": 1.0}, "clip is 1.0: give a quantile"),
        ({"potentials": 1}, "potentials is 1"),
        ({"eps": math.inf, "potentials": 100}, "equal weights tilt nothing"),
        ({"min_ess": 1.0}, "min_ess is 1.0"),
    ],
)
def test_arguments_that_make_no_weights_are_refused(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        GibbsWeights(**arguments)


def test_what_is_not_fitted_says_so():
    x0, x1 = _ends(8)
    for coupling in (GibbsWeights(eps=1.0), GibbsWeights()):
        assert not coupling.fitted
        with pytest.raises(InputError, match=r"call fit\(x0, x1\)"):
            coupling(x0, x1)
    with pytest.raises(InputError, match="the elbow was not looked for"):
        GibbsWeights(normalise="batch")(x0, x1)
    with pytest.raises(InputError, match="none were found"):
        GibbsWeights(eps=1.0, normalise="batch", potentials=50)(x0, x1)


def test_draws_that_have_no_weights_are_refused():
    x0, x1 = _ends(64)
    with pytest.raises(InputError, match="NaN or infinity"):
        GibbsWeights(eps=1.0).fit(x0, x1.log())
    with pytest.raises(InputError, match="as many draws of each"):
        GibbsWeights(eps=1.0).fit(x0[:10], x1)
    with pytest.raises(InputError, match="cost the same"):
        GibbsWeights().fit(torch.zeros(64, 2), torch.ones(64, 2))
    with pytest.raises(InputError, match="ragged"):
        _fitted(eps=1.0)(x0, x1, None, torch.zeros(64, dtype=torch.long))


def test_a_scale_that_leaves_few_samples_is_refused_with_a_better_one():
    with pytest.raises(
        InputError, match=r"eps is 0.1, where the effective sample size is .* eps=1\.?\d*, or say min_ess=0"
    ):
        _fitted(eps=0.1)
    assert _fitted(eps=0.1, min_ess=0.0).fitted


@pytest.mark.parametrize("arguments", [{}, {"kappa": 1.0}, {"eps": 1.0, "clip": 0.9}, {"eps": 2.0, "potentials": 100}])
def test_a_flow_keeps_what_was_fitted(tmp_path, arguments):
    coupling = _fitted(**arguments)
    flow = Flow(MLP(NetSpec((2,)), hidden=(8,)), Transport(coupling=coupling))
    flow.save_pretrained(tmp_path / "flow")
    again = Flow.from_pretrained(tmp_path / "flow").transport.coupling
    assert again.fitted
    x0, x1 = _ends(64, seed=1)
    assert torch.equal(again(x0, x1).log_weight, coupling(x0, x1).log_weight)
    assert "GibbsWeights ties x0 to x1" in flow.score_refusal


def test_training_fits_the_coupling_and_two_trainings_agree():
    losses = []
    for _ in range(2):
        transport = Transport(coupling=GibbsWeights())
        options = {"steps": 3, "batch_size": 32, "device": "cpu"}
        flow = advect.train(MLP, EightGaussians(n=3000), transport=transport, **options)
        assert flow.transport.coupling.fitted
        losses.append(flow.network.head.weight)
    assert torch.equal(*losses)
    assert 0.9 < float(flow.transport.coupling.scale) < 1.3


def test_clipped_weights_are_equal_above_the_quantile_and_keep_mean_one():
    x0, x1 = _ends()
    plain, clipped = (_fitted(eps=0.7, **more)(x0, x1).log_weight.exp() for more in ({}, {"clip": 0.9}))
    assert float(clipped.mean()) == pytest.approx(1, abs=0.1)
    top = clipped == clipped.max()
    assert 0.07 < float(top.double().mean()) < 0.13
    assert torch.equal(plain.argsort()[:1000], clipped.argsort()[:1000])
    assert float(effective_share(clipped.log())) > float(effective_share(plain.log()))


def test_potentials_take_the_tilt_away_on_new_draws():
    bare, with_potentials = _fitted(eps=0.7), _fitted(eps=0.7, potentials=1000)
    before, after = (tilt_of(coupling, *_ends(1000, seed=3)) for coupling in (bare, with_potentials))
    assert before.source > 0.3
    assert after.source < 0.05
    assert after.data < 0.05
    assert after.interaction_share > 0.5


def test_weights_of_the_data_and_of_the_pair_multiply():
    x0, x1 = _ends(16)
    own = torch.arange(16.0)
    coupling = _fitted(eps=1.0)
    out = Transport(coupling=coupling).pair(Batch(x1, {"label": torch.arange(16)}, x0=x0, weight=own))
    assert torch.equal(out.x0, x0)
    assert torch.equal(out.x1, x1)
    assert torch.equal(out.cond["label"], torch.arange(16))
    assert torch.allclose(out.weight, own * coupling(x0, x1).log_weight.exp())
    logs = FlowMatching()(Networks(lambda x, t, label: x, transport=Transport(coupling=coupling)), out).logs
    assert torch.equal(logs["weight"], out.weight)


def test_half_precision_states_have_float32_weights():
    x0, x1 = _ends(64)
    coupling = _fitted(eps=1.0)
    half = coupling(x0.bfloat16(), x1.bfloat16()).log_weight
    assert half.dtype == torch.float32
    assert torch.allclose(half, coupling(x0, x1).log_weight, atol=0.1)


@pytest.mark.parametrize("arguments", [{}, {"kappa": 1.0}, {"eps": 1.0, "clip": 0.9}, {"eps": 2.0, "potentials": 50}])
def test_weights_are_formed_where_the_batch_is_without_reading_the_device(arguments):
    """On the meta device a tensor of the CPU, or a number asked back, is an error."""
    coupling = _fitted(200, **arguments).to("meta")
    x = torch.zeros(8, 2, device="meta")
    batch = Transport(coupling=coupling).pair(Batch(x, x0=x))
    assert batch.weight.shape == (8,)
    assert batch.weight.device == torch.device("meta")


# tilt


def test_effective_share_of_equal_weights_is_one_and_of_a_single_one_its_share():
    assert float(effective_share(torch.full((50,), -700.0))) == pytest.approx(1, abs=1e-12)
    assert float(effective_share(torch.tensor([0.0, -math.inf, -math.inf, -math.inf]))) == pytest.approx(0.25)
    assert float(effective_share(torch.tensor([3.0, 1.0]).log())) == pytest.approx(16 / 20)


def test_the_unbiased_tilt_does_not_see_the_noise_of_its_own_means():
    """Weights that are independent of both ends tilt nothing, however they vary."""
    log_weight = torch.randn(60, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    many = torch.stack(
        [torch.stack(tilt_variance(log_weight[torch.randperm(60)][:, torch.randperm(40)])) for _ in range(3)]
    )
    assert float((many - many[0]).abs().max()) < 1e-9  # of the order of samples nothing depends
    biased = tilt_variance(log_weight, unbiased=False)
    for unbiased, plain, partners in zip(many[0], biased, (40, 60), strict=True):
        assert abs(float(unbiased)) < 0.03
        assert float(plain) == pytest.approx((math.e - 1) / partners, abs=0.03)
    with pytest.raises(InputError, match="all pairs"):
        tilt_variance(torch.zeros(5))


def test_a_known_cost_is_split_into_its_parts():
    g = torch.Generator().manual_seed(0)
    a, b = (
        torch.randn(1500, 1, generator=g, dtype=torch.float64),
        torch.randn(1, 1200, generator=g, dtype=torch.float64),
    )
    found = spread(2 * a + 0.5 * b + 0.3 * a * b)
    assert found.source == pytest.approx(2, rel=0.06)
    assert found.data == pytest.approx(0.5, rel=0.06)
    assert found.interaction == pytest.approx(0.3, rel=0.06)
    assert found.interaction_share == pytest.approx(0.09 / (4 + 0.25 + 0.09), rel=0.2)


def test_the_elbow_is_of_the_data_and_scales_with_them():
    x0, x1 = _ends(800)
    curve = elbow_curve(torch.cdist(x0.double(), x1.double()))
    assert float(curve[0, 3]) >= 0.1  # from a tenth of the pairs
    assert float(curve[-1, 1:3].max()) <= 0.01  # to a tilt of a hundredth
    assert bool((curve[1:, 3] > curve[:-1, 3]).all())
    again = elbow_curve(torch.cdist(10 * x0.double(), 10 * x1.double()))
    assert elbow(again) == pytest.approx(10 * elbow(curve), rel=1e-6)
    assert torch.allclose(tilt_curve(torch.cdist(x0.double(), x1.double()), curve[:, 0]), curve)
    even = torch.arange(400, dtype=torch.float64) * (2 * math.pi / 400)
    circle = torch.stack([even.cos(), even.sin()], 1)
    smallest = elbow_curve(torch.cdist(circle, circle))  # nothing is tilted: as small as pairs allow
    assert elbow(smallest) == float(smallest[0, 0])


def test_the_search_for_a_scale_gives_weights_that_can_be_used():
    x1 = EightGaussians(n=1500).points("train")
    part = FitGibbsScale()(None, Batch(x1), seed=0)
    assert part.eps == pytest.approx(1.04, abs=0.2)
    assert part.fitted
    assert part(torch.zeros(4, 2), x1[:4]).log_weight.shape == (4,)
    lines = FitGibbsScale().summary(part)
    assert sum("<- elbow" in line for line in lines) == 1
    assert any("interaction share" in line for line in lines)
    with pytest.raises(InputError, match="data is None"):
        FitGibbsScale()(None, None)
