"""Facts of RAAG (arXiv 2508.03442) on fields and in sampling: predictions, calls, the ratio at t=0, what is fitted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advect import Flow
from advect.conditions import ClassLabel, Conditions
from advect.errors import InputError
from advect.fields import Run
from advect.fitting import FitRAAG, alpha_for, ratio_curve
from advect.guidance import CFG, RAAG, CFGZeroStar, Guided, Interval, guidance_ratio
from advect.interpolants import Linear
from advect.networks import NetSpec, Network, Prediction
from advect.oracles import GaussianMixture
from advect.parts import build, config_of
from advect.solvers import Euler, Heun
from advect.times import TimeGrid

F64 = torch.float64
CLASSES = 8
CONDITIONS = Conditions((ClassLabel(CLASSES),), {"label": 0.1})


def _mixture(noise: float = 0.4, d: int = 16, seed: int = 0) -> GaussianMixture:
    means = torch.randn(CLASSES, d, generator=torch.Generator().manual_seed(seed), dtype=F64)
    means = 4 * means / means.norm(dim=1, keepdim=True)
    return GaussianMixture((1.0,) * CLASSES, means.tolist(), (0.09,) * CLASSES, label_noise=noise)


def _noise(n: int, d: int = 16) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(1), dtype=F64)


class _DataPredictor(Network):
    """A network that says E[x1 | x_t], as an x1-model does."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__(spec)
        self.denoiser = _mixture(0.0).denoiser()

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return self.denoiser(x, t, **cond)


LABEL = torch.arange(64) % CLASSES
NULL = torch.full_like(LABEL, CLASSES)


def test_fact_06_a_velocity_model_and_its_data_model_are_guided_alike():
    oracle, rule, t = _mixture(0.0), RAAG(18.0, 12.0), 0.3
    g = torch.Generator().manual_seed(3)
    x1, label = oracle.draw(64, g)
    x = Linear().sample(_noise(64), x1, torch.full((64,), t, dtype=F64)).x
    data_model = Prediction(_DataPredictor(NetSpec((16,), CONDITIONS.items)), "x1")
    runs = [Run(), Run()]
    by_v, by_x1 = (
        Guided(model, rule, CONDITIONS).bind(run, label=label)(x, t)
        for model, run in zip((oracle.velocity(), data_model), runs, strict=True)
    )
    assert float((by_v - by_x1).abs().max()) < 1e-5
    # fed with the raw predictions, the rule sees another ratio
    raw = guidance_ratio(oracle.denoiser()(x, t, label=label), oracle.denoiser()(x, t))
    assert float((rule.scale(raw) - runs[0].log["guidance scale"][0]).abs().max()) > 1


def test_fact_06_at_a_small_gap_raw_predictions_push_half_as_much_again():
    """Scales of 5.9 to 7.8 by velocities, which are ratios of .104 to .076; of 9 and more by data predictions."""
    t, n, d, g = 0.3, 16, 1000, torch.Generator().manual_seed(5)
    x, v_u, gap = torch.randn(3, n, d, generator=g, dtype=F64)
    rho = torch.linspace(0.0764, 0.1036, n, dtype=F64)[:, None]
    v_c = v_u + rho * v_u.norm(dim=1, keepdim=True) * gap / gap.norm(dim=1, keepdim=True)

    def field(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return torch.where(label[:, None] == CLASSES, v_u.repeat(2, 1), v_c.repeat(2, 1))

    run = Run()
    Guided(field, RAAG(18.0, 12.0), CONDITIONS).bind(run, label=LABEL[:n])(x, t)
    by_v = run.log["guidance scale"][0]
    assert float(by_v.min()) == pytest.approx(5.9, abs=0.05)
    assert float(by_v.max()) == pytest.approx(7.8, abs=0.05)
    raw = RAAG(18.0, 12.0).scale(guidance_ratio(x + (1 - t) * v_c, x + (1 - t) * v_u))
    assert float(raw.min()) > 9.0


def test_fact_08_the_first_ratio_is_a_property_of_the_data():
    oracle, x0 = _mixture(0.0), _noise(64)
    means = oracle.means
    v = oracle.velocity()
    mean = means.mean(0)
    assert float((v(x0, 0.0) - (mean - x0)).abs().max()) < 1e-12
    expected = (means[LABEL] - mean).norm(dim=1) / ((mean - x0).norm(dim=1) + 1e-8)
    found = guidance_ratio(v(x0, 0.0, label=LABEL), v(x0, 0.0, label=NULL))
    assert float((found - expected).abs().max()) < 1e-10
    wrong = v(x0, 0.0, label=LABEL).norm(dim=1) / v(x0, 0.0).norm(dim=1)  # |v_c| / |v_u|, easily misread
    assert float((wrong - expected).abs().min()) > 1e-3
    # 40 % of wrong labels take 40 % of the gap
    noisy = _mixture(0.4).velocity()
    assert float((guidance_ratio(noisy(x0, 0.0, label=LABEL), v(x0, 0.0)) - 0.6 * expected).abs().max()) < 1e-10


def test_fact_08_the_ratio_on_true_states_rises_and_then_falls():
    """Mean ratios of clean and noisy labels at five times, and a median far below the late mean."""
    n, g = 10_000, torch.Generator().manual_seed(7)
    times = (0.0, 0.2, 0.3, 0.4, 0.5)
    clean, noisy = _mixture(0.0), _mixture(0.4)
    x1, label = clean.draw(n, g)
    x0 = torch.randn(n, 16, generator=g, dtype=F64)
    found: dict[float, list[Tensor]] = {}
    for t in times:
        x, null = (1 - t) * x0 + t * x1, torch.full_like(label, CLASSES)
        found[t] = [
            guidance_ratio(m.velocity()(x, t, label=label), m.velocity()(x, t, label=null)) for m in (clean, noisy)
        ]
    means = {t: [float(r.mean()) for r in both] for t, both in found.items()}
    expected = {0.0: (0.94, 0.55), 0.2: (1.21, 0.75), 0.3: (0.92, 0.62), 0.4: (0.43, 0.31), 0.5: (0.09, 0.07)}
    for t in times:
        assert means[t][0] == pytest.approx(expected[t][0], abs=0.05)
        assert means[t][1] == pytest.approx(expected[t][1], abs=0.05)
    assert means[0.2][0] > means[0.0][0]  # the largest need not be the first
    assert float(found[0.4][0].median()) == pytest.approx(0.14, abs=0.03)
    assert float(found[0.5][0].median()) < 0.004


def _rows(rule, steps: int = 10, solver=Euler()) -> tuple[int, int, Tensor]:
    run = Run()
    field = Guided(_mixture().velocity(), rule, CONDITIONS).bind(run, label=LABEL)
    out = solver(field, _noise(64), steps, run, record=True)
    return run.nfe, run.rows["model"] // 64, out.states


def test_fact_09_calls():
    """One doubled call per step, which is two evaluations per sample; an interval makes fewer."""
    assert _rows(CFG(7.0))[:2] == _rows(RAAG(18.0, 3.0))[:2] == (10, 20)
    assert _rows(Interval(CFG(7.0), 0.15, 0.7))[:2] == (10, 16)  # t = .2, ..., .7
    assert _rows(RAAG(1.0))[:2] == (10, 10)
    # the step that stands still makes its call, and it is counted
    calls, rows, states = _rows(CFGZeroStar(7.0, zero_steps=1))
    assert (calls, rows) == (10, 20)
    assert torch.equal(states[1], states[0])
    assert not torch.equal(states[2], states[1])


def _flow() -> Flow:
    torch.manual_seed(0)
    from advect.networks import MLP

    return Flow(MLP(NetSpec((16,), CONDITIONS.items), hidden=(32,)), conditions=CONDITIONS)


def test_ratio_and_scale_are_logged_by_step():
    run = Run()
    rule = RAAG(18.0, 3.0)
    _flow().sample(12, seed=0, run=run, solver=Euler(), steps=5, guidance=rule, label=LABEL[:12])
    ratios, scales = run.log["guidance ratio"], run.log["guidance scale"]
    assert len(ratios) == len(scales) == 5
    assert all(r.shape == (12,) for r in ratios)
    assert all(torch.equal(rule.scale(r), s) for r, s in zip(ratios, scales, strict=True))


def test_the_measured_curve_is_that_of_plain_sampling_or_of_the_rules_given():
    oracle, x0 = _mixture(), _noise(64)
    field = oracle.velocity()
    curve = ratio_curve(field, x0, 5, conditions=CONDITIONS, label=LABEL)
    assert curve.times == pytest.approx((0.0, 0.2, 0.4, 0.6, 0.8))
    x = x0
    for i, t in enumerate(curve.times):
        v_c, v_u = field(x, t, label=LABEL), field(x, t, label=NULL)
        assert float((curve.ratios[i] - guidance_ratio(v_c, v_u)).abs().max()) < 1e-12
        x = x + 0.2 * v_c
    assert curve.median[0] == pytest.approx(float(curve.ratios[0].median()), abs=0.02)
    assert curve.mean[1] == pytest.approx(float(curve.ratios[1].mean()))
    guided = ratio_curve(field, x0, 5, conditions=CONDITIONS, guidance=(CFG(7.0),), solver=Heun(), label=LABEL)
    assert len(guided.times) == 5  # the first stage of each step
    assert torch.equal(guided.ratios[0], curve.ratios[0])
    assert float((guided.ratios[1] - curve.ratios[1]).abs().max()) > 0.01
    with pytest.raises(InputError, match="no condition is given"):
        ratio_curve(field, x0, 5, conditions=CONDITIONS)


def test_alpha_answers_a_ratio_with_the_scale_that_is_wanted():
    for ratio, w_max, scale in ((0.55, 18.0, 4.0), (0.08, 18.0, 2.0), (1.0, 7.0, 7.0)):
        rule = RAAG(w_max, alpha_for(ratio, w_max, scale))
        assert float(rule.scale(torch.tensor(ratio, dtype=F64))) == pytest.approx(scale, abs=1e-12)
    assert alpha_for(0.55) == pytest.approx(3.15, abs=0.01)
    for arguments, match in (
        ((0.0,), r"ratio is 0\.0"),
        ((0.5, 18.0, 1.0), r"scale is 1\.0"),
        ((0.5, 4.0, 5.0), "at most"),
    ):
        with pytest.raises(InputError, match=match):
            alpha_for(*arguments)


def test_a_rule_is_fitted_to_a_flow_and_tied_to_its_weights(tmp_path):
    flow = _flow()
    flow.sampler = flow.sampler.but(solver=Euler(), grid=TimeGrid(4))
    fit = FitRAAG(first_scale=3.0, samples=64)
    rule = fit(flow, seed=1)
    assert rule == fit(flow, seed=1)
    assert rule.fitted_on == flow.weights_hash()
    assert [t for t, _, _ in rule.measured] == pytest.approx([0.0, 0.25, 0.5, 0.75])
    assert float(rule.scale(torch.tensor(rule.measured[0][1], dtype=F64))) == pytest.approx(3.0)
    assert build(config_of(rule)) == rule
    assert "scale 3 at the first step" in fit.summary(rule)[0]
    flow.sample(3, seed=0, guidance=rule, label=1)
    alone = fit(flow, cond={"label": 1})
    assert alone.measured != fit(flow).measured, "all classes in turn"
    with pytest.raises(InputError, match="label has 1 values for 64 samples"):
        fit(flow, cond={"label": [1]})
    other = _flow()
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    with pytest.raises(InputError, match="was fitted on a flow whose weights"):
        other.sample(3, seed=0, guidance=rule, label=1)


def test_what_cannot_be_fitted_is_said():
    for make, match in (
        (lambda: FitRAAG(first_scale=1.0), r"scale is 1\.0"),
        (lambda: FitRAAG(samples=1), "samples is 1"),
        (lambda: FitRAAG()(Flow(lambda x, t: x, shape=(2,))), "has no conditions"),
        (lambda: FitRAAG()(None), "give one"),
        (lambda: FitRAAG(samples=4)(_deaf()), r"the ratio is 0\.0"),
    ):
        with pytest.raises(InputError, match=match):
            make()


def _deaf() -> Flow:
    return Flow(lambda x, t, label: -x, shape=(2,), conditions=CONDITIONS)


def test_every_rule_is_swept_over_as_many_settings_that_all_differ():
    from advect.systems.raag.fronts import sweeps

    for settings in sweeps(0.3).values():
        assert len(settings) == len({repr(rule) for rule in settings.values()}) == 8
