"""Guidance: rules in closed form, and what the wrapper computes, skips and counts."""

from __future__ import annotations

import pytest
import torch

from advect import guidance
from advect.conditions import ClassLabel, Conditions
from advect.errors import InputError
from advect.fields import Run, Step
from advect.guidance import APG, CFG, RAAG, AutoGuidance, CFGZeroStar, Guidance, Guided, Interval, Rescale, TokenRescale
from advect.interpolants import Cosine, Linear, StochasticInterpolant
from advect.oracles import reference_mixture
from advect.parts import build, config_of
from advect.solvers import Euler, EulerLast, Heun

RULES = [
    CFG(3.0),
    AutoGuidance(2.0),
    CFGZeroStar(3.0),
    APG(3.0),
    APG(3.0, eta=0.3, radius=0.5, momentum=-0.5),
    RAAG(8.0, 2.0),
    Rescale(CFG(3.0), 0.7),
    Rescale(APG(3.0), 0.7, "x1"),
    TokenRescale(CFG(3.0)),
    TokenRescale(RAAG(8.0, 2.0), 1),
    Interval(CFG(3.0), 0.2, 0.7),
    Interval(RAAG(8.0, 2.0), 0.2, 0.7),
    Interval(APG(3.0), -1.0, 1.0, Linear()),
]
CONDITIONS = Conditions((ClassLabel(3),))
MIXTURE = reference_mixture()
FIELD = MIXTURE.velocity()
X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABEL = torch.arange(6) % 3
NULL = torch.full((6,), 3)
T = 0.4
V_C, V_N = FIELD(X, T, label=LABEL), FIELD(X, T, label=NULL)


def weak(x, t, label):
    return 0.5 * FIELD(x, t, label=label)


def guided(rules, field=FIELD, run=None, **options):
    return Guided(field, rules, CONDITIONS, weak=weak, **options).bind(Run() if run is None else run, label=LABEL)


def test_every_rule_is_in_the_table():
    members = {
        c for c in vars(guidance).values() if isinstance(c, type) and issubclass(c, Guidance) and c is not Guidance
    }
    assert members == {type(rule) for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_config_rebuilds_it(rule):
    assert build(config_of(rule)) == rule


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_one_batch_or_two_passes_give_the_same(rule, batched):
    run = Run()
    out = guided(rule, run=run, batched=batched)(X, T)
    assert (out - guided(rule, batched=not batched)(X, T)).abs().max() < 1e-12
    assert (out - V_C).abs().max() > 1e-3
    if rule.against == "weak":
        assert run.calls == {"model": 1, "weak": 1}
        assert run.rows == {"model": 6, "weak": 6}
    else:
        assert run.calls == {"model": 1 if batched else 2}
        assert run.rows == {"model": 12}


@pytest.mark.parametrize("make", [CFG, AutoGuidance, CFGZeroStar, APG, RAAG])
def test_scale_1_is_plain_and_costs_nothing(make):
    run = Run()
    out = guided(make(1.0), run=run)(X, T)
    assert torch.equal(out, V_C)
    assert run.rows == {"model": 6}


def test_cfg():
    assert (guided(CFG(3.0))(X, T) - (V_N + 3 * (V_C - V_N))).abs().max() < 1e-12
    assert (guided(CFG(0.0))(X, T) - V_N).abs().max() < 1e-12
    w = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    assert (guided(CFG(w))(X, T) - (V_N + w[:, None] * (V_C - V_N))).abs().max() < 1e-12
    with pytest.raises(InputError, match=r"scale has shape \(5,\), but there are 6 samples"):
        guided(CFG(w[:5]))(X, T)


def test_autoguidance():
    assert (guided(AutoGuidance(2.0))(X, T) - 1.5 * V_C).abs().max() < 1e-12
    with pytest.raises(InputError, match="pass weak="):
        Guided(FIELD, AutoGuidance(), CONDITIONS)


@pytest.mark.parametrize(
    ("rule", "inside"),
    [
        (Interval(CFG(3.0), 0.2, 0.7), lambda t: 0.2 <= t <= 0.7),
        (Interval(CFG(3.0), -0.5, 0.5, Linear()), lambda t: 0.378 <= t <= 0.622),
    ],
    ids=["time", "log-SNR"],
)
def test_interval(rule, inside):
    for t in (0.0, 0.1, 0.3, 0.5, 0.65, 0.9):
        run = Run()
        out = guided(rule, run=run)(X, t)
        v_c, v_n = FIELD(X, t, label=LABEL), FIELD(X, t, label=NULL)
        assert (out - (v_n + 3 * (v_c - v_n) if inside(t) else v_c)).abs().max() < 1e-12
        assert run.rows["model"] == (12 if inside(t) else 6)
    times = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.65, 0.9], dtype=torch.float64)
    v_c, v_n = FIELD(X, times, label=LABEL), FIELD(X, times, label=NULL)
    mask = torch.tensor([inside(t) for t in times.tolist()])[:, None]
    assert (guided(rule)(X, times) - torch.where(mask, v_n + 3 * (v_c - v_n), v_c)).abs().max() < 1e-12


@pytest.mark.parametrize("space", ["v", "x1", "x0"])
@pytest.mark.parametrize("path", [Linear(), Cosine()], ids=lambda p: type(p).__name__)
def test_rescale_in_a_named_space(space, path):
    field = MIXTURE.velocity(path)
    out = Guided(field, Rescale(CFG(3.0), 1.0, space), CONDITIONS, interpolant=path).bind(Run(), label=LABEL)(X, T)
    v_c = field(X, T, label=LABEL)
    as_space = lambda v: v if space == "v" else path.convert(v, X, T, "v", space)  # noqa: E731
    spread = [as_space(v).std(1, correction=0) for v in (out, v_c)]
    assert (spread[0] - spread[1]).abs().max() < 1e-10
    assert (guided(Rescale(CFG(3.0), 0.0))(X, T) - guided(CFG(3.0))(X, T)).abs().max() < 1e-12


@pytest.mark.parametrize("patch", [1, 2])
def test_token_rescale_keeps_lengths_and_directions(patch):
    g = torch.Generator().manual_seed(1)
    v_c, v_n = (torch.randn(2, 3, 4, 6, generator=g, dtype=torch.float64) for _ in range(2))
    out = TokenRescale(CFG(3.0), patch)(v_c, v_n, None, Run())
    plain = v_n + 3 * (v_c - v_n)
    for i in range(0, 4, patch):
        for j in range(0, 6, patch):
            of = [v[:, :, i : i + patch, j : j + patch].reshape(2, -1) for v in (out, v_c, plain)]
            assert (of[0].norm(dim=1) - of[1].norm(dim=1)).abs().max() < 1e-12
            assert (torch.cosine_similarity(of[0], of[2]) - 1).abs().max() < 1e-12
    whole = out.flatten(1).norm(dim=1) - v_c.flatten(1).norm(dim=1)
    assert whole.abs().max() < 1e-12
    assert (
        out - Rescale(CFG(3.0), 1.0)(v_c, v_n, None, Run())
    ).abs().max() > 0.1  # one ratio per sample is no substitute
    still = TokenRescale(CFG(1.0), patch)(torch.zeros_like(v_c), torch.zeros_like(v_c), None, Run())
    assert (still == 0).all()


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("zero", ["both", "the conditional one"])
def test_token_rescale_of_tokens_that_are_zero_has_gradients(patch, zero):
    g = torch.Generator().manual_seed(1)
    v_c, v_n = (torch.randn(2, 3, 4, 6, generator=g, dtype=torch.float64) for _ in range(2))
    for v in (v_c, v_n) if zero == "both" else (v_c,):
        v[:, :, :2, :2] = 0
    v_c.requires_grad_()
    v_n.requires_grad_()
    out = TokenRescale(CFG(3.0), patch)(v_c, v_n, None, Run())
    assert (out[:, :, :2, :2] == 0).all()
    for slope in torch.autograd.grad(out.square().sum(), (v_c, v_n)):
        assert slope.isfinite().all()


def test_token_rescale_in_half_precision_does_not_overflow():
    """The square of a length that float16 holds is none that it holds."""
    g = torch.Generator().manual_seed(1)
    v_c, v_n = (100 * torch.randn(2, 16, 4, 6, generator=g) for _ in range(2))
    want = TokenRescale(CFG(3.0))(v_c, v_n, None, Run())
    got = TokenRescale(CFG(3.0))(v_c.half(), v_n.half(), None, Run())
    assert (got.float() - want).abs().max() < 1e-2 * want.abs().max()


def test_cfg_zero_star():
    share = (V_C * V_N).sum(1, keepdim=True) / (V_N**2).sum(1, keepdim=True)
    assert (guided(CFGZeroStar(3.0))(X, T) - (share * V_N + 3 * (V_C - share * V_N))).abs().max() < 1e-12
    still = guided(CFGZeroStar(3.0, zero_steps=2))
    assert (still(X, T, step=Step(1, 10, 0.1, 0.2)) == 0).all()
    assert (still(X, T, step=Step(2, 10, 0.2, 0.3)) != 0).all()
    states = Euler()(still, X, 5, record=True).states
    assert torch.equal(states[2], X)
    assert not torch.equal(states[3], X)
    zero = CFGZeroStar(3.0)(V_C, torch.zeros_like(V_C), None, Run())
    assert (zero - 3 * V_C).abs().max() < 1e-12


def test_apg():
    d_c, d_n = (Linear().convert(v, X, T, "v", "x1") for v in (V_C, V_N))
    gap = d_c - d_n
    along = (gap * d_c).sum(1, keepdim=True) / (d_c**2).sum(1, keepdim=True) * d_c
    data = d_c + 2.0 * (gap - along)
    assert (guided(APG(3.0))(X, T) - Linear().convert(data, X, T, "x1", "v")).abs().max() < 1e-10
    assert (guided(APG(3.0, eta=1.0))(X, T) - guided(CFG(3.0))(X, T)).abs().max() < 1e-10
    short = APG(2.0, eta=1.0, radius=0.1)(d_c, d_n, None, Run()) - d_c
    assert torch.allclose(short.norm(dim=1), torch.full((6,), 0.1, dtype=torch.float64).minimum(gap.norm(dim=1)))


def test_apg_momentum_is_per_trajectory():
    rule = APG(2.0, eta=1.0, momentum=-0.5)
    one, plain = guided(rule), guided(APG(2.0, eta=1.0))
    first, second = one(X, T), one(X, T)
    assert (first - plain(X, T)).abs().max() < 1e-12
    assert (second - V_C - 0.5 * (first - V_C)).abs().max() < 1e-10  # d - d/2
    assert torch.equal(guided(rule)(X, T), first)


def test_rules_in_order():
    out = guided((CFG(2.0), CFG(3.0)))(X, T)
    assert (out - (V_N + 6 * (V_C - V_N))).abs().max() < 1e-12
    assert torch.equal(guided(())(X, T), V_C)


def test_a_guided_field_is_a_field():
    by_hand, h = X, 1 / 8
    for i in range(8):
        v_c, v_n = FIELD(by_hand, i * h, label=LABEL), FIELD(by_hand, i * h, label=NULL)
        by_hand = by_hand + h * (v_n + 2 * (v_c - v_n))
    run = Run()
    model = Guided(FIELD, CFG(2.0), CONDITIONS)
    assert (Euler()(model.bind(run, label=LABEL), X, 8, run) - by_hand).abs().max() < 1e-12
    assert run.nfe == 8
    assert (model(X, T, label=LABEL) - (V_N + 2 * (V_C - V_N))).abs().max() < 1e-12


def test_a_flow_map_is_guided_too():
    def average(x, r, t, label):
        return FIELD(x, 0.5 * (r + t), label=label)

    out = guided(CFG(3.0), average)(X, 0.3, 0.5)
    assert (out - (V_N + 3 * (V_C - V_N))).abs().max() < 1e-12
    with pytest.raises(InputError, match="an average velocity does not give"):
        guided(APG(3.0), average)(X, 0.3, 0.5)


def test_refusals():
    with pytest.raises(InputError, match="no condition is given"):
        Guided(lambda x, t: x, CFG(2.0)).bind(Run())(X, T)
    with pytest.raises(InputError, match=r"APG acts on x1, which does not give the velocity at t=1.*EulerLast"):
        Heun()(guided(APG(3.0)), X, 4)
    assert EulerLast(Heun())(guided(APG(3.0)), X, 4).isfinite().all()
    with pytest.raises(InputError, match="StochasticInterpolant does not give"):
        Guided(FIELD, APG(3.0), CONDITIONS, interpolant=StochasticInterpolant())
    with pytest.raises(InputError, match="acts on 'x1': set space='x1'"):
        Rescale(APG(3.0), 0.5, "v")
    for make, match in (
        (lambda: Rescale(CFG(), 1.5), "phi is 1.5"),
        (lambda: Interval(CFG(), 0.8, 0.2), "low=0.8"),
        (lambda: APG(radius=0.0), "radius is 0.0"),
        (lambda: APG(momentum=1.0), "momentum is 1.0"),
        (lambda: TokenRescale(patch=0), "patch is 0"),
        (lambda: TokenRescale(APG()), "acts on x1"),
        (lambda: TokenRescale()(torch.ones(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), None, Run()), "does not divide"),
        (lambda: CFGZeroStar(zero_steps=-1), "zero_steps is -1"),
    ):
        with pytest.raises(InputError, match=match):
            make()


def test_every_rule_notes_or_not_and_scales_per_sample_reach_every_row():
    """A scale per sample is that scale on each sample alone; RAAG makes one of its own for each, and notes it."""
    w = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    for make in (CFG, CFGZeroStar, APG):
        together = guided(make(w))(X, T)
        for i in range(6):
            assert (together[i] - guided(make(float(w[i])))(X, T)[i]).abs().max() < 1e-12
    run = Run()
    guided(Interval(RAAG(8.0, 2.0), 0.2, 0.7), run=run)(X, T)
    guided(Interval(RAAG(8.0, 2.0), 0.5, 0.7), run=run)(X, T)
    assert [ratio.shape for ratio in run.log["guidance ratio"]] == [(6,)]
    scale = run.log["guidance scale"][0]
    assert scale.unique().numel() == 6
    assert (guided(RAAG(8.0, 2.0))(X, T) - (V_N + scale[:, None] * (V_C - V_N))).abs().max() < 1e-12
