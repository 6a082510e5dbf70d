"""Every figure against an independent implementation, or against what it must be by its definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import linalg, optimize, stats
from torch import Tensor, nn

from advect.metrics import (
    MMD,
    EnergyDistance,
    ExactW2,
    KernelDistance,
    SlicedW2,
    energy_distance,
    exact_w2,
    frechet_distance,
    inside,
    kernel_distance,
    mmd,
    nearest,
    sliced_w2,
)
from advect.metrics.wasserstein import directions


def normal(n: int, d: int = 3, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64) * scale + shift


def scipy_frechet(x: Tensor, y: Tensor) -> float:
    a, b = x.numpy(), y.numpy()
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(ca @ cb)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * np.real(root)))


@pytest.mark.parametrize(("n", "m", "d"), [(50, 70, 5), (300, 200, 16)])
def test_frechet_distance_is_scipys(n, m, d):
    x, y = normal(n, d), normal(m, d, seed=1, shift=0.3, scale=1.5) @ normal(d, d, seed=2)
    assert frechet_distance(x, y).item() == pytest.approx(scipy_frechet(x, y), rel=1e-9)


def test_frechet_distance_with_fewer_samples_than_features():
    x, y = normal(6, 12), normal(9, 12, seed=1, shift=0.5)
    assert frechet_distance(x, y).item() == pytest.approx(scipy_frechet(x, y), rel=1e-4)  # sqrtm of a singular matrix


def test_frechet_distance_is_torchmetrics():
    FrechetInceptionDistance = pytest.importorskip("torchmetrics.image.fid").FrechetInceptionDistance

    class Flat(nn.Module):
        num_features = 12

        def forward(self, x):
            return x.double().flatten(1)

    g = torch.Generator().manual_seed(0)
    real, fake = torch.rand(40, 3, 2, 2, generator=g), torch.rand(60, 3, 2, 2, generator=g) ** 2
    theirs = FrechetInceptionDistance(Flat(), normalize=True, input_img_size=(3, 2, 2))
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    ours = frechet_distance(*(x.double().flatten(1) for x in (fake, real)))
    assert ours.item() == pytest.approx(theirs.compute().item(), rel=1e-3)


def test_frechet_distance_of_gaussians_in_closed_form():
    x, y = normal(200_000, 2), normal(200_000, 2, seed=1, shift=1.0, scale=2.0)
    assert frechet_distance(x, y).item() == pytest.approx(2 * 1.0**2 + 2 * (2 - 1) ** 2, rel=0.02)


def test_frechet_distance_of_a_set_and_itself_is_zero():
    x = normal(40, 6)
    assert abs(frechet_distance(x, x).item()) < 1e-10


def u_statistic(kernel, x: Tensor, y: Tensor) -> float:
    """E k(X, X') + E k(Y, Y') - 2 E k(X, Y), pair by pair."""
    within = [
        np.mean([kernel(z[i], z[j]) for i, j in itertools.permutations(range(len(z)), 2)])
        for z in (x.numpy(), y.numpy())
    ]
    between = np.mean([kernel(a, b) for a in x.numpy() for b in y.numpy()])
    return float(sum(within) - 2 * between)


KERNELS = {
    "energy": (energy_distance, lambda a, b: -np.linalg.norm(a - b)),
    "cubic": (kernel_distance, lambda a, b: (a @ b / len(a) + 1) ** 3),
    "gaussian": (lambda x, y: mmd(x, y, 0.7), lambda a, b: np.exp(-np.sum((a - b) ** 2) / (2 * 0.7**2))),
}


@pytest.mark.parametrize("name", KERNELS)
def test_quadratic_distances_pair_by_pair(name):
    ours, kernel = KERNELS[name]
    x, y = normal(9), normal(7, seed=1, shift=0.5)
    assert ours(x, y).item() == pytest.approx(u_statistic(kernel, x, y), rel=1e-9)


@pytest.mark.parametrize("name", KERNELS)
def test_quadratic_distances_are_unbiased_and_the_v_statistic_is_not(name):
    ours, _ = KERNELS[name]
    values = torch.stack([ours(normal(10, seed=2 * i), normal(10, seed=2 * i + 1)) for i in range(400)])
    error = values.std() / 20
    assert abs(values.mean()) < 4 * error
    if name == "energy":  # with the pairs of a sample with itself, each of distance zero, counted in
        pairs = [torch.pdist(normal(10, seed=i)).mean() / 10 for i in range(50)]
        assert 2 * torch.stack(pairs).mean() > 20 * error


def test_energy_distance_in_one_dimension_is_scipys():
    x, y = normal(30, 1), normal(20, 1, seed=1, shift=0.4)
    spread = sum(torch.pdist(z).mean() / len(z) for z in (x, y))  # scipy's is the V-statistic, with a root
    theirs = stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    assert (energy_distance(x, y) + spread).item() == pytest.approx(theirs, rel=1e-9)


@pytest.mark.filterwarnings("ignore:Metric")
def test_kernel_distance_is_torchmetrics():
    KernelInceptionDistance = pytest.importorskip("torchmetrics.image.kid").KernelInceptionDistance

    class Flat(nn.Module):
        num_features = 12

        def forward(self, x):
            return x.double().flatten(1) / 255

    g = torch.Generator().manual_seed(0)
    real, fake = (torch.randint(256, (30, 3, 2, 2), generator=g, dtype=torch.uint8) for _ in range(2))
    theirs = KernelInceptionDistance(Flat(), subsets=1, subset_size=30)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    ours = kernel_distance(*(x.double().flatten(1) / 255 for x in (fake, real)))
    assert ours.item() == pytest.approx(theirs.compute()[0].item(), rel=1e-4, abs=1e-6)


def test_median_bandwidth_comes_from_real_samples_alone():
    x, y = normal(40, shift=3.0), normal(60, seed=1)
    median = np.median(torch.pdist(y).numpy())
    assert mmd(x, y).item() == pytest.approx(mmd(x, y, median).item(), rel=1e-2)
    assert mmd(100 * x, y).item() == pytest.approx(mmd(100 * x, y, median).item(), rel=1e-2)


@pytest.mark.parametrize(
    ("metric", "function"),
    [(EnergyDistance(), energy_distance), (KernelDistance(), kernel_distance), (MMD(), mmd), (SlicedW2(), sliced_w2)],
)
def test_metrics_give_the_figure_of_the_function(metric, function):
    x, y = normal(600, 4), normal(600, 4, seed=1, shift=0.2)
    if metric.extractor_used is not None:  # pixels: images
        got = metric(x.reshape(-1, 1, 2, 2), y.reshape(-1, 1, 2, 2), resamples=3)
    else:
        got = metric(x, y, resamples=3)
    assert got.value == pytest.approx(function(x, y).item(), rel=1e-9)


def test_bootstrap_by_weights_is_the_bootstrap_by_rows():
    """A resample is a weight per sample; told apart from a resample that counts copies of one sample as a pair."""
    from advect.metrics.base import counts
    from advect.metrics.quadratic import _measured, _minus_distance

    x, y = normal(12), normal(9, seed=1)
    got = _measured(_minus_distance, x, y, torch.Generator().manual_seed(0), 3, block=5).resampled
    g = torch.Generator().manual_seed(0)
    wx, wy = counts(12, 3, g, x.device), counts(9, 3, g, y.device)
    for b in range(3):
        rx, ry = (z.repeat_interleave(w[b].long(), 0) for z, w in ((x, wx), (y, wy)))

        def within(z, w):
            own = (w.square().sum() - w.sum()).item()  # ordered pairs of a sample with its own copy
            return torch.cdist(z, z).sum().item() / (len(z) * (len(z) - 1) - own)

        want = 2 * torch.cdist(rx, ry).mean().item() - within(rx, wx[b]) - within(ry, wy[b])
        assert got[b].item() == pytest.approx(want, rel=1e-6)


def test_sliced_w2_of_a_shift_in_closed_form():
    x, shift = normal(50, 4), torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    want = (directions(4) @ shift).square().mean().sqrt()
    assert sliced_w2(x, x[torch.randperm(50)] + shift).item() == pytest.approx(want.item(), rel=1e-9)
    assert want.item() == pytest.approx(shift.norm().item() / 2, rel=0.1)  # |a| / sqrt(d)


def test_sliced_w2_is_pots():
    ot = pytest.importorskip("ot")
    x, y = normal(40, 5), normal(40, 5, seed=1, shift=0.3)
    theirs = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=directions(5).T.numpy())
    assert sliced_w2(x, y).item() == pytest.approx(float(theirs), rel=1e-9)


def test_sliced_w2_of_unequal_numbers_is_near_that_of_equal_ones():
    x, y = normal(4000, 2), normal(1000, 2, seed=1, shift=1.0)
    assert sliced_w2(x, y).item() == pytest.approx(1.0, abs=0.1)  # shift (1, 1): sqrt(2) / sqrt(2)
    assert sliced_w2(y, x).item() == pytest.approx(sliced_w2(x, y).item(), rel=1e-9)


def test_exact_w2_is_the_best_assignment():
    x, y = normal(30, 3), normal(30, 3, seed=1, shift=0.5)
    cost = torch.cdist(x, y).square().numpy()
    want = math.sqrt(cost[optimize.linear_sum_assignment(cost)].mean())
    assert exact_w2(x, y).item() == pytest.approx(want, rel=1e-9)
    got = ExactW2()(x, y, resamples=0)
    assert got.value == pytest.approx(want, rel=1e-9)
    assert got.low is None


def test_wasserstein_resample_needs_no_second_sort():
    from advect.metrics.wasserstein import _redrawn

    x, times = normal(6, 2), torch.tensor([2, 0, 1, 0, 3, 0])
    values, order = x.sort(0)
    assert torch.equal(_redrawn(values, order, times), x.repeat_interleave(times, 0).sort(0).values)


def test_nearest_by_hand():
    x, y = normal(13, 2), normal(7, 2, seed=1)
    distance, index = nearest(x, y, k=2)
    for i in range(13):
        all_of_them = [float((x[i] - y[j]).norm()) for j in range(7)]
        order = sorted(range(7), key=all_of_them.__getitem__)
        assert index[i].tolist() == order[:2]
        assert distance[i].tolist() == pytest.approx([all_of_them[j] for j in order[:2]])


def test_inside_by_hand():
    x, y, k = normal(20, 2, scale=1.5), normal(15, 2, seed=1), 3
    radii = [sorted(float((y[i] - y[j]).norm()) for j in range(15) if j != i)[k - 1] for i in range(15)]
    want = [any(float((a - y[j]).norm()) <= radii[j] for j in range(15)) for a in x]
    assert inside(x, y, k).tolist() == want
    assert 0 < sum(want) < 20
