"""PSNR and SSIM against torchmetrics, ST-LPIPS against figures of its authors' code."""

from __future__ import annotations

import pytest
import torch

from advect.errors import InputError
from advect.metrics import STLPIPS, psnr, ssim

# by side of the pictures below: what the authors' own code says
REFERENCE = {22: [0.0046884, 0.0041537, 0.0036929], 40: [0.0039483, 0.0072459, 0.0045659]}


def pictures(side: int, n: int = 3, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    a = torch.rand(n, channels, side, side, generator=g) * 2 - 1
    return a, a + 0.2 * torch.randn(a.shape, generator=g)


@pytest.mark.parametrize(("side", "channels"), [(11, 1), (16, 3), (33, 3)])
def test_psnr_and_ssim_agree_with_torchmetrics(side, channels):
    image = pytest.importorskip("torchmetrics.functional.image")
    a, b = pictures(side, channels=channels)
    expected = image.peak_signal_noise_ratio(a, b, data_range=2.0, reduction="none", dim=(1, 2, 3))
    assert (psnr(a, b) - expected).abs().max() < 1e-4
    _, local = image.structural_similarity_index_measure(a, b, data_range=2.0, reduction="none", return_full_image=True)
    inside = local[..., 5:-5, 5:-5].flatten(1).mean(1)  # torchmetrics mirrors the edges and counts them too
    assert (ssim(a, b) - inside).abs().max() < 1e-4
    assert bool((ssim(a, a) == 1).all())
    assert bool(psnr(a, a).isinf().all())


def test_pictures_that_do_not_fit_are_named():
    a, b = pictures(8)
    with pytest.raises(InputError, match="8x8, smaller than the window of SSIM"):
        ssim(a, b)
    with pytest.raises(InputError, match="give two"):
        psnr(a, b[:2])


def test_the_perceptual_distance_is_that_of_its_authors():
    pytest.importorskip("stlpips_pytorch")
    distance = STLPIPS()
    assert distance.name == "ST-LPIPS[alex]"
    for side, expected in REFERENCE.items():
        a, b = pictures(side)
        assert (distance(a, b) - torch.tensor(expected)).abs().max() < 2e-6
        assert bool((distance(a, a) == 0).all())
    a, b = pictures(21)
    with pytest.raises(InputError, match="22 pixels a side or more"):
        distance(a, b)
    a, _ = pictures(65, channels=1)
    moved, noisy = distance(a[..., 1:], a[..., :-1]), distance(a[..., 1:], a[..., 1:] + 0.5)
    assert bool((moved < 1).all())
    assert noisy.shape == (3,)
