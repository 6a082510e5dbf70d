"""Facts of source distributions for flow matching (docs/systems/source-fm.md): norms and pruned directions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import advect
from advect.errors import InputError
from advect.files import hash_tensors
from advect.fitting import FitPrunedSource, largest_cosines, principal_axes, rejected_axes, sides, unit_vectors
from advect.networks import MLP
from advect.objectives import FlowMatching, Objective
from advect.sampler import Sampler
from advect.sources import ChiSphere, Gaussian, NormAligned, PrunedSource, aligned_scale, chi_mean, pruned_acceptance

CIFAR_NORM = 27.1981  # mean |x1| of CIFAR-10 in [-1, 1]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def orthonormal(count: int, d: int) -> Tensor:
    return torch.linalg.qr(torch.randn(d, count, generator=seeded(1)))[0].T.contiguous()


def pictures_of_norm(norm: float, n: int = 400) -> Tensor:
    """Stand-ins for CIFAR-10 whose norms scatter around a mean that is exact."""
    x = torch.randn(n, 3, 32, 32, generator=seeded(2), dtype=torch.float64)
    radius = norm * (1 + 0.3 * torch.linspace(-1, 1, n, dtype=torch.float64))
    return x / x.flatten(1).norm(dim=1)[:, None, None, None] * radius[:, None, None, None]


def test_fact_01_mean_norm_in_closed_form_and_the_scale_of_cifar():
    assert chi_mean(2) == pytest.approx(1.253314, abs=1e-5)
    assert chi_mean(3072) == pytest.approx(55.421115, abs=1e-5)
    with pytest.raises(OverflowError):
        math.gamma((3072 + 1) / 2)  # the formula as it stands
    source = NormAligned().fit(pictures_of_norm(CIFAR_NORM))
    assert source.std == pytest.approx(0.490753, abs=1e-6)
    assert abs(source.std - CIFAR_NORM / 55.4185) > 2e-5  # the measured constant of the published code
    norms, squares = 0.0, 0.0
    for k in range(10):
        x0 = source.sample((2000, 3, 32, 32), None, seeded(k)).flatten(1)
        norms, squares = norms + float(x0.norm(dim=1).sum()), squares + float(x0.square().sum())
    assert norms / 20_000 == pytest.approx(CIFAR_NORM, rel=1e-3)
    assert math.sqrt(squares / (20_000 * 3072)) == pytest.approx(source.std, rel=1e-3)
    assert source.gaussian == (0.0, source.std)


def test_fact_01_radii_of_the_sphere_are_those_of_the_gaussian():
    x = ChiSphere().sample((20_000, 48), None, seeded()).norm(dim=1)
    y = Gaussian().sample((20_000, 48), None, seeded(5)).norm(dim=1)
    assert float(x.mean()) == pytest.approx(chi_mean(48), rel=2e-3)
    assert float(x.std()) == pytest.approx(float(y.std()), rel=0.03)
    fixed = ChiSphere(Gaussian(3.0), "mean", 0.5).sample((100, 48), None, seeded()).norm(dim=1)
    torch.testing.assert_close(fixed, torch.full_like(fixed, 0.5 * chi_mean(48)))
    wide = ChiSphere(dimension=3072)  # in the plane, the radii of pictures
    radii = wide.sample((4000, 2), None, seeded()).norm(dim=1)
    assert float(radii.mean()) == pytest.approx(chi_mean(3072), rel=1e-3)
    assert float(radii.std()) == pytest.approx(math.sqrt(0.5), rel=0.05)
    assert wide.gaussian is None


def test_fact_02_pruning_keeps_norms_and_accepts_what_it_should():
    axes, tau = orthonormal(4, 16), 0.2
    source = PrunedSource.of(axes, tau=tau)
    g = torch.randn(1_000_000, 16, generator=seeded())
    kept = source.cosines(g) <= tau
    assert float(kept.double().mean()) == pytest.approx(0.362, abs=3e-3)
    norms = g.norm(dim=1)
    assert float(norms[kept].mean()) == pytest.approx(float(norms.mean()), rel=1e-3)
    drawn = source.sample((400_000, 16), None, seeded(3)).norm(dim=1)
    assert float(drawn.mean()) == pytest.approx(chi_mean(16), rel=1e-3)
    # what other readings give: independent axes, cosines with |g| = sqrt(d), both sides
    one = (g[:, 0] / norms <= tau).double().mean() ** 4
    assert float(one) == pytest.approx(0.369, abs=2e-3)
    assert pruned_acceptance(4, tau, 16) == pytest.approx(0.386, abs=1e-3)
    both = ((g @ axes.T).abs().amax(1) / norms <= tau).double().mean()
    assert min(abs(float(wrong) - 0.362) for wrong in (one, torch.tensor(0.386), both)) > 3e-3


def test_fact_03_acceptance_in_high_dimension():
    source = PrunedSource.of(orthonormal(200, 3072), tau=0.048)
    passed = 0.0
    for k in range(10):
        passed += float((source.cosines(torch.randn(2000, 3072, generator=seeded(k))) <= 0.048).double().sum())
    assert pruned_acceptance(200, 0.048, 3072) == pytest.approx(0.457, abs=1e-3)
    assert passed / 20_000 == pytest.approx(0.457, abs=0.02)
    for count, share in ((50, 0.82), (500, 0.14), (1000, 0.02)):
        assert pruned_acceptance(count, 0.048, 3072) == pytest.approx(share, abs=6e-3)


def test_fact_03_no_axes_is_the_plain_sampler_bit_for_bit():
    plain, pruned = seeded(), seeded()
    source = PrunedSource.of(torch.zeros(0, 48), source=Gaussian(0.5))
    assert torch.equal(source.sample((100, 3, 4, 4), None, pruned), Gaussian(0.5).sample((100, 3, 4, 4), None, plain))
    assert torch.equal(plain.get_state(), pruned.get_state())
    assert pruned_acceptance(0, 0.048, 3072) == 1
    assert source.gaussian == (0.0, 0.5)


def test_fact_04_one_side_alone_is_forbidden():
    source = PrunedSource.of(torch.eye(3)[:1], tau=0.5)
    u = torch.tensor([[-0.9, math.sqrt(0.19), 0.0], [0.9, math.sqrt(0.19), 0.0]])
    assert (source.cosines(u) <= source.tau).tolist() == [True, False]
    x0 = source.sample((20_000, 3), None, seeded())
    along = x0[:, 0] / x0.norm(dim=1)
    assert float(along.max()) <= 0.5 + 1e-6
    assert float((along < -0.5).double().mean()) == pytest.approx(1 / 3, abs=0.02)  # (1-.5)/2 of 3/4


def test_fact_05_the_rejected_axes_are_those_without_data():
    """m(+e1) = .99, m(-e1) = -.2, m(+-e2) = .6: the set is {-e1} alone."""
    u = torch.tensor(
        [
            [0.99, 0.0, math.sqrt(1 - 0.99**2)],
            [0.2, 0.6, math.sqrt(1 - 0.04 - 0.36)],
            [0.2, -0.6, math.sqrt(1 - 0.04 - 0.36)],
        ]
    )
    candidates = sides(torch.eye(3)[:2])  # +e1, +e2, -e1, -e2
    assert largest_cosines(candidates, u).tolist() == pytest.approx([0.99, 0.6, -0.2, 0.6])
    rejected = rejected_axes(candidates, u, tau_data=0.01)
    assert rejected.tolist() == [[-1.0, 0.0, 0.0]]
    accepted = candidates[largest_cosines(candidates, u) > 0.01]  # the file of the published script
    assert len(accepted) == 3
    assert not any(torch.equal(row, rejected[0]) for row in accepted)
    assert len(candidates[(candidates @ u.T).abs().amax(1) <= 0.01]) == 0  # without signs there is none
    assert len(rejected_axes(candidates, u, tau_data=0.7)) == 3  # a larger threshold rejects more, not fewer
    full = torch.cat([u, -u])
    source = PrunedSource.of(rejected_axes(candidates, full, 0.01))
    assert torch.equal(source.sample((9, 3), None, seeded()), Gaussian().sample((9, 3), None, seeded()))


def test_fact_05_fitted_on_data_with_one_empty_side():
    angle = torch.linspace(0, 140, 200) * math.pi / 180  # data from 0 to 140 degrees: 250 is empty
    x = 25 * torch.stack([angle.cos(), angle.sin()], 1)
    part = FitPrunedSource(tau_inf=0.7)(None, advect.Batch(x))
    assert part.rejected.shape == (1, 2)
    degrees = math.degrees(math.atan2(float(part.rejected[0, 1]), float(part.rejected[0, 0]))) % 360
    assert degrees == pytest.approx(250, abs=0.5)
    assert float(part.acceptance) == pytest.approx(1 - math.acos(0.7) / math.pi, abs=0.01)
    assert FitPrunedSource(target_accept=0.9)(None, advect.Batch(x)).tau == pytest.approx(
        math.cos(0.1 * math.pi), abs=0.01
    )
    circle = torch.linspace(0, 360, 200) * math.pi / 180
    none = FitPrunedSource()(None, advect.Batch(torch.stack([circle.cos(), circle.sin()], 1)))
    assert len(none.rejected) == 0
    assert "nothing is pruned" in FitPrunedSource().summary(none)[0]


def test_fact_05_mean_removed_for_the_axes_and_not_for_the_cosines(monkeypatch):
    """Data all on one side of e1: centred cosines would face both sides."""
    x = torch.randn(500, 6, generator=seeded()) * torch.tensor([3.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    x[:, 0] = x[:, 0].abs() + 0.5
    u = unit_vectors(x)
    axes = principal_axes(u)
    assert len(rejected_axes(sides(axes), u, 0.01)) == 1
    assert len(rejected_axes(sides(axes), unit_vectors(x - x.mean(0)), 0.01)) == 0
    torch.testing.assert_close(axes @ axes.T, torch.eye(6), rtol=0, atol=1e-5)
    variance = ((u - u.mean(0)) @ axes.T).var(0)
    assert (variance.diff() <= 1e-6).all()
    assert len(principal_axes(u, 3)) == 3
    with monkeypatch.context() as patch:
        patch.setattr("advect.fitting.pruned_axes.WIDEST", 5)  # subspace iteration finds the same axes
        leading = principal_axes(u, 2, seeded())
        with pytest.raises(InputError, match="the state has 6 coordinates: give axes=200"):
            principal_axes(u)
    torch.testing.assert_close((leading @ axes[:2].T).diagonal().abs(), torch.ones(2), rtol=0, atol=1e-3)
    assert len(principal_axes(u[:4])) == 3  # further axes are not determined by four samples


def test_fact_06_the_bound_holds_and_exhaustion_is_an_error():
    axes = orthonormal(40, 256)
    source = PrunedSource.of(axes, tau=0.12)
    x0 = source.sample((777, 256), None, seeded())
    assert x0.shape == (777, 256)
    assert float((x0 @ axes.T / x0.norm(dim=1, keepdim=True)).max()) <= 0.12 + 1e-6
    with pytest.raises(InputError, match=r"samples found no draw in 20 rounds; raise tau"):
        PrunedSource.of(sides(torch.eye(4)), tau=0.1, max_rounds=20).sample((8, 4), None, seeded())
    with pytest.raises(InputError, match=r"no draw passed when it was measured"):
        PrunedSource.of(torch.eye(4), tau=0.1, acceptance=0.0).sample((8, 4), None, seeded())
    x = torch.randn(500, 4, generator=seeded()).abs()  # a corner of the space alone
    with pytest.raises(InputError, match=r"of the draws pass 7 rejected axes"):
        FitPrunedSource(tau_data=0.9, tau_inf=-0.7)(None, advect.Batch(x))


def test_fact_07_norm_aligned_and_pruned_keeps_the_scale_once():
    aligned = NormAligned().fit(pictures_of_norm(CIFAR_NORM))
    source = PrunedSource.of(orthonormal(100, 3072), tau=0.048, source=aligned)
    norm = float(source.sample((2000, 3, 32, 32), None, seeded()).flatten(1).norm(dim=1).mean())
    assert norm == pytest.approx(aligned.std * 55.42, rel=0.01)
    assert norm != pytest.approx(55.42, rel=0.1)
    assert norm != pytest.approx(aligned.std**2 * 55.42, rel=0.1)
    assert aligned_scale(pictures_of_norm(CIFAR_NORM)) == aligned.std


class Watch(Objective):
    """Keeps a hash of what reaches the objective."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def loss(self, nets, batch, generator):
        if torch.is_grad_enabled():
            assert batch.x0 is not None
            self.seen.append(hash_tensors({"x0": batch.x0, "x1": batch.x1}))
        return FlowMatching().loss(nets, batch, generator)


def test_fact_08_a_pruned_sampler_leaves_training_untouched():
    x = torch.randn(200, 2, generator=seeded())
    seen, weights = [], []
    for source in (None, PrunedSource.of(torch.eye(2)[:1], tau=0.2)):
        watch = Watch()
        flow = advect.train(
            lambda spec: MLP(spec, hidden=(8,)),
            x,
            objective=watch,
            sampler=Sampler(source=source),
            steps=5,
            batch_size=32,
            device="cpu",
        )
        seen.append(watch.seen)
        assert isinstance(flow.network, MLP)
        weights.append(hash_tensors(flow.network.state_dict()))
    assert len(seen[0]) >= 5
    assert seen[0] == seen[1]
    assert weights[0] == weights[1]
    x0 = flow.sample(500, seed=0, record=True).states[0]  # and sampling starts from the pruned source
    assert float((x0[:, 0] / x0.norm(dim=1)).max()) <= 0.2 + 1e-6
