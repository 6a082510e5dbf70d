"""Facts of transition matching: kernels with a backbone and a head, their training, calls, and causality."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from advect import Batch, Flow, NetSpec, Transport, train
from advect.conditions import ClassLabel, Conditions
from advect.data import Tensors
from advect.fields import Run
from advect.guidance import CFG, GuidedKernel, Interval
from advect.interpolants import IndependentChain, LinearChain
from advect.networks import (
    MLP,
    AdaLNHead,
    DiTKernel,
    FieldKernel,
    HistoryKernel,
    MLPKernel,
    PlainHead,
    PrefixKernel,
    UNet,
)
from advect.networks.causal import CausalKernel
from advect.objectives import ARTM, DTM, FHTM, Networks
from advect.oracles import Gaussian
from advect.solvers import ChainSolver, Context, Euler
from advect.times import CustomGrid, TimeGrid

SHAPE, GRID = (1, 8, 8), (0.0, 0.5, 0.75, 1.0)
LABELS = (ClassLabel(10),)


def filled(network: nn.Module) -> nn.Module:
    """The network in float64, with layers that start at zero filled: zeros would pass everything."""
    torch.manual_seed(0)
    network.double()
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.3)
    return network.eval()


def prefix(**options) -> PrefixKernel:
    return filled(PrefixKernel(NetSpec(SHAPE, LABELS), 2, 32, 4, head=AdaLNHead(1, 32), **options))  # pyright: ignore


def history(**options) -> HistoryKernel:
    return filled(HistoryKernel(NetSpec(SHAPE, LABELS), 3, 2, 32, 4, head=AdaLNHead(1, 32), **options))  # pyright: ignore


def pictures(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_token(kernel: CausalKernel, x: Tensor, j: int) -> Tensor:
    """The state with another token j."""
    tokens = kernel.tokens(x).clone()
    tokens[:, j] += 1.0
    return kernel.untokens(tokens)


def moved(a: Tensor, b: Tensor) -> list[bool]:
    """Which places (axis 1) differ."""
    return ((a - b).abs().amax((0, 2)) > 1e-9).tolist()


def test_fact_03_a_trained_head_has_the_moments_of_the_kernel():
    """Mean and covariance of what a trained joint head draws; a deterministic head has no covariance."""
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    data = Gaussian((1.0, -0.5), covariance.tolist()).sample(50_000, torch.Generator().manual_seed(0)).float()
    flow = train(MLPKernel, data, objective=DTM(), steps=800, batch_size=256, lr=2e-3, optimizer="adam", device="cpu")
    x, t = torch.tensor([[0.3, 0.1]]).expand(20_000, 2), 0.3
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        y = (ChainSolver(Euler(), TimeGrid(64))(flow.network, x, [t, 1.0], Run(g)) - x) / (1 - t)
    inverse = covariance.inverse()
    closed = (inverse + t**2 / (1 - t) ** 2 * torch.eye(2)).inverse() / (1 - t) ** 2
    velocity = Gaussian((1.0, -0.5), covariance.tolist()).velocity()(x[:1], torch.tensor(t))
    assert (y.mean(0) - velocity).abs().max() < 0.1 * closed[0, 0].sqrt()
    assert torch.allclose(y.T.cov(), closed.to(y), rtol=0.1)


@pytest.mark.parametrize("j", [0, 7, 14, 15])
def test_fact_06_artm_token_j_of_the_next_state_reaches_the_features_after_it_alone(j):
    kernel, x, y = prefix(), pictures(2), pictures(2, 1)
    t = torch.tensor(0.5, dtype=torch.float64)
    label = torch.tensor([1, 2])
    changed = moved(kernel.teach(x, t, y, label=label), kernel.teach(x, t, with_token(kernel, y, j), label=label))
    assert changed == [i > j for i in range(16)]


@pytest.mark.parametrize("j", [0, 15])
def test_fact_06_artm_every_token_of_the_state_reaches_all_features(j):
    kernel, x, y = prefix(), pictures(2), pictures(2, 1)
    t = torch.tensor(0.5, dtype=torch.float64)
    assert all(moved(kernel.teach(x, t, y), kernel.teach(with_token(kernel, x, j), t, y)))


@pytest.mark.parametrize("begin", ["noise", "token"])
@pytest.mark.parametrize(("k", "j"), [(0, 3), (1, 0), (1, 15), (2, 7), (3, 14)])
def test_fact_06_fhtm_a_token_reaches_what_comes_after_it_alone(begin, k, j):
    kernel, states = history(begin=begin), [pictures(2, seed) for seed in range(4)]
    other = [with_token(kernel, x, j) if i == k else x for i, x in enumerate(states)]
    changed = moved(kernel.teach(states), kernel.teach(other))
    place = 16 * (k - 1) + j  # of the changed token among those that are learned
    expected = [i > place for i in range(48)] if k > 0 else [begin == "noise"] * 48
    assert changed == expected


def test_fact_06_a_mask_that_leaks_would_be_seen():
    """Full attention in place of the causal one moves features at and before the token."""
    kernel, x = prefix(), pictures(2)
    h = kernel.embedded(kernel.tokens(x), 0)
    told = kernel._told(x, torch.tensor(0.5, dtype=torch.float64), {})
    other = kernel.embedded(kernel.tokens(with_token(kernel, x, 9)), 0)
    assert all(moved(kernel.through(h, told), kernel.through(other, told)))


def test_fact_07_artm_predicts_all_tokens_the_first_from_the_state_alone():
    kernel, x = prefix(), pictures(3)
    t = torch.tensor(0.5, dtype=torch.float64)
    h = kernel.teach(x, t, pictures(3, 1))
    assert h.shape == (3, 16, 32)
    assert torch.allclose(h[:, :1], kernel.teach(x, t, pictures(3, 2))[:, :1], atol=1e-12)
    assert torch.allclose(h[:, :1], kernel.features(x, t), atol=1e-12)
    assert history().teach([pictures(3, k) for k in range(4)]).shape == (3, 48, 32)


def counted(kernel: nn.Module, path, grid, **options) -> Run:
    run = Run(torch.Generator().manual_seed(0))
    model = GuidedKernel(kernel, CFG(2.0), Conditions(LABELS), **options) if options else kernel
    bound = Flow(model, shape=SHAPE).bind(run, label=torch.arange(3))
    ChainSolver(Euler(), TimeGrid(4))(bound, pictures(3), grid, run, context=Context(path))
    return run


@pytest.mark.parametrize("batched", [False, True])
def test_guidance_in_an_interval_of_a_history_of_one_token_a_state(batched):
    """Both passes see every state, also where no rule acts: outside, and with scale 1, the draws are the plain ones."""
    spec, cond, grid = NetSpec((4,), LABELS), {"label": torch.arange(3)}, CustomGrid(GRID)
    kernel = filled(HistoryKernel(spec, 3, 1, 8, 2, patch=4, head=PlainHead((8,))))
    noise = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def ends(rule) -> Tensor:
        run = Run(torch.Generator().manual_seed(0))
        model = GuidedKernel(kernel, rule, Conditions(LABELS), batched).bind(run, **cond)
        return ChainSolver(Euler(), TimeGrid(4))(model, noise, grid, run, context=Context(IndependentChain(GRID)))

    plain = ends(CFG(1.0))
    for low, high in ((0.0, 0.4), (0.4, 1.0)):
        assert torch.allclose(ends(Interval(CFG(1.0), low, high)), plain, atol=1e-12)
        assert not torch.allclose(ends(Interval(CFG(3.0), low, high)), plain, atol=1e-6)
        assert not torch.allclose(ends(Interval(CFG(3.0), low, high)), ends(CFG(3.0)), atol=1e-6)


def test_fact_08_calls_of_backbone_and_head():
    dtm = filled(MLPKernel(NetSpec(SHAPE, LABELS), patch=2))
    chain, grid = IndependentChain(GRID), CustomGrid(GRID)
    assert counted(dtm, LinearChain(), 5).calls == {"backbone": 5, "head": 20}
    for kernel in (prefix(), history(), history(begin="token")):
        assert counted(kernel, chain, grid).calls == {"backbone": 3 * 16, "head": 3 * 16 * 4}
    assert counted(dtm, LinearChain(), 5, batched=False).calls == {"backbone": 10, "head": 40}
    both = counted(dtm, LinearChain(), 5, batched=True)
    assert both.calls == {"backbone": 5, "head": 20}
    assert both.rows == {"backbone": 30, "head": 120}
    assert counted(prefix(), chain, grid, batched=False).calls == {"backbone": 96, "head": 384}


def test_fact_08_with_and_without_cache_the_features_agree():
    """A chain is drawn with the cache; teaching sees the same tokens in one pass."""
    x, label = pictures(3), torch.arange(3)
    chain, grid = IndependentChain(GRID), CustomGrid(GRID)
    for kernel in (prefix(), history(), history(begin="token")):
        seen: list[Tensor] = []
        look = kernel.look

        def spy(*arguments, look=look, seen=seen, **cond):
            h, carry = look(*arguments, **cond)
            seen.append(h)
            return h, carry

        kernel.look = spy
        run = Run(torch.Generator().manual_seed(0))
        bound = Flow(kernel, shape=SHAPE).bind(run, label=label)
        states = list(
            ChainSolver(Euler(), TimeGrid(2))(bound, x, grid, run, context=Context(chain), record=True).states
        )
        cached = torch.cat(seen, 1)
        if isinstance(kernel, HistoryKernel):
            whole = kernel.teach(states, label=label)
        else:
            times = [torch.tensor(t, dtype=x.dtype) for t in GRID]
            whole = torch.cat([kernel.teach(states[k], times[k], states[k + 1], label=label) for k in range(3)], 1)
        assert (cached - whole).abs().max() < 1e-5


def test_fact_08_guidance_acts_on_the_velocity_of_the_head_from_both_passes():
    """By hand: u = u_null + w (u_c - u_null). One pass, or guidance of what was drawn, is something else."""
    kernel, x, label = filled(MLPKernel(NetSpec(SHAPE, LABELS), patch=2)), pictures(3), torch.arange(3)
    with torch.no_grad():  # far from linear, where guiding draws and guiding velocities differ
        for p in kernel.parameters():
            p.mul_(3)
    null, solver = torch.full((3,), 10), ChainSolver(Euler(), TimeGrid(3))

    class ByHand(nn.Module):
        def __init__(self, w: float, one_pass: bool = False) -> None:
            super().__init__()
            self.w, self.one_pass = w, one_pass
            self.tokens, self.untokens = kernel.tokens, kernel.untokens

        def features(self, x, t):
            h = kernel.features(x, t, label=label)
            return torch.stack([h, h if self.one_pass else kernel.features(x, t, label=null)])

        def head(self, y, s, t, h):
            u, zero = kernel.head(y, s, t, h[0]), kernel.head(y, s, t, h[1])
            return zero + self.w * (u - zero)

    def ends(model, rule=None, **cond):
        run = Run(torch.Generator().manual_seed(0))
        if rule is not None:
            model = GuidedKernel(model, rule, Conditions(LABELS)).bind(run, **cond)
        return solver(model, x, 2, run)

    guided = ends(kernel, CFG(2.5), label=label)
    assert torch.allclose(guided, ends(ByHand(2.5)), atol=1e-10)
    assert torch.allclose(ends(kernel, CFG(1.0), label=label), ends(ByHand(1.0)), atol=1e-10)
    assert (guided - ends(ByHand(2.5, one_pass=True))).abs().max() > 1e-3
    drawn = {name: Flow(kernel, shape=SHAPE).bind(Run(), label=cond) for name, cond in (("c", label), ("0", null))}
    c, zero = (solver(bound, x, 2, Run(torch.Generator().manual_seed(0))) for bound in drawn.values())
    assert (guided - (zero + 2.5 * (c - zero))).abs().max() > 1e-3


@pytest.mark.parametrize("make", [lambda: filled(MLPKernel(NetSpec(SHAPE, LABELS), patch=2)), prefix, history])
def test_fact_09_same_seed_same_sample_and_the_start_does_not_fix_the_end(make):
    kernel = make()
    path = LinearChain() if isinstance(kernel, MLPKernel) else IndependentChain(GRID)
    flow = Flow(kernel, Transport(interpolant=path), conditions=Conditions(LABELS, {"label": 0.1}), shape=SHAPE)
    flow.sampler = flow.sampler.but(solver=ChainSolver(Euler(), TimeGrid(3)))
    x0 = pictures(4)
    one, again, other = (flow.sample(4, seed=seed, x0=x0) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert (one - other).abs().flatten(1).amax(1).min() > 1e-3
    assert torch.allclose(flow.sample(4, seed=0, x0=x0, batch_size=3), one, atol=1e-9)


def test_fact_10_every_token_has_its_own_inner_time_and_noise():
    heard: list[Tensor] = []

    class Listens(nn.Module):
        def forward(self, y, s, t, h):
            heard.extend([s, y])
            return torch.zeros_like(y)

    kernel = MLPKernel(NetSpec(SHAPE), patch=2)
    kernel.head = Listens()
    x = torch.zeros(64, *SHAPE)  # the tokens of a sample are alike, so that differences are those of the noise
    DTM()(kernel, Batch(x, x0=torch.zeros_like(x)), torch.Generator().manual_seed(0))
    s, y = heard
    assert s.shape == (64, 16)
    assert s.std(1).min() > 0.1
    assert y.std(1).min() > 0.05
    u = s.flatten().sort().values
    assert (u - torch.linspace(0, 1, len(u))).abs().max() < 0.05  # uniform


def test_times_are_told_to_the_head_of_dtm_and_artm_and_not_to_that_of_fhtm():
    y, h = torch.randn(2, 5, 4, dtype=torch.float64), torch.randn(2, 5, 32, dtype=torch.float64)
    s, a, b = (torch.tensor(value, dtype=torch.float64) for value in (0.5, 0.2, 0.7))
    for kernel, told in ((prefix(), True), (history(), False)):
        differ = (kernel.head(y, s, a, h) - kernel.head(y, s, b, h)).abs().max() > 1e-9
        assert bool(differ) is told


def test_a_frozen_backbone_keeps_its_weights_and_a_warm_start_takes_them_over():
    data = Tensors(torch.randn(64, 2))
    flow = train(lambda spec: MLP(spec, hidden=(16, 16)), data, steps=3, batch_size=8, device="cpu")
    before = {name: value.clone() for name, value in flow.network.state_dict().items()}  # pyright: ignore
    kernel = train(
        FieldKernel(flow.network, PlainHead((8,))),
        data,
        objective=DTM(),
        steps=3,
        batch_size=8,
        device="cpu",  # pyright: ignore
    )
    assert all(torch.equal(kernel.network.backbone.state_dict()[name], value) for name, value in before.items())
    warm = train(
        lambda spec: MLPKernel(spec, (16, 16), frozen=True),
        data,
        objective=DTM(),
        start_from=flow,
        steps=3,
        batch_size=8,
        device="cpu",
    )
    assert all(torch.equal(warm.network.backbone.state_dict()[name], value) for name, value in before.items())
    assert all(torch.equal(flow.network.state_dict()[name], value) for name, value in before.items())  # pyright: ignore


@pytest.mark.parametrize(
    ("make", "objective", "path"),
    [
        (lambda s: MLPKernel(s, patch=2), DTM(), LinearChain()),
        (lambda s: DiTKernel(s, depth=1, width=16, heads=2, head=AdaLNHead(1, 16)), DTM(), LinearChain(GRID)),
        (lambda s: FieldKernel(UNet(s, "XS"), PlainHead((8,)), patch=2, frozen=False), DTM(), LinearChain()),
        (lambda s: PrefixKernel(s, 1, 16, 2, head=PlainHead((8,))), ARTM(), IndependentChain(GRID)),
        (lambda s: HistoryKernel(s, 3, 1, 16, 2, head=PlainHead((8,))), FHTM(), IndependentChain(GRID)),
    ],
)
def test_every_trained_weight_gets_a_gradient_and_a_saved_flow_gives_the_same(make, objective, path, tmp_path):
    kernel = filled(make(NetSpec(SHAPE, LABELS)))
    nets = Networks(kernel, transport=Transport(interpolant=path))
    objective(nets, Batch(pictures(4), {"label": torch.arange(4)}), torch.Generator().manual_seed(0)).mean().backward()
    assert [name for name, p in kernel.named_parameters() if p.requires_grad and p.grad is None] == []
    flow = Flow(kernel, Transport(interpolant=path), shape=SHAPE).float()
    flow.save_pretrained(tmp_path)
    again = Flow.from_pretrained(tmp_path)
    label = torch.arange(4)
    assert torch.equal(flow.sample(4, seed=0, label=label), again.sample(4, seed=0, label=label))
