"""The loss object: one scalar whichever way it is reduced, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from advect import InputError
from advect.objectives import Loss


def _pair(shape: tuple[int, ...] = (6, 3, 2)) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=g, dtype=torch.float64), torch.randn(shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 3, 2)], ids=str)
def test_the_fused_mean_is_the_mean_of_the_per_sample_losses(shape: tuple[int, ...]):
    prediction, target = _pair(shape)
    reference = ((prediction - target) ** 2).reshape(6, -1).mean(1)
    for loss in (Loss(prediction, target), Loss(prediction - target)):
        assert torch.allclose(loss.per_sample, reference, atol=1e-14)
        assert torch.allclose(loss.mean(), reference.mean(), atol=1e-14)


def test_weights_multiply_samples():
    prediction, target = _pair()
    weight = torch.arange(6.0, dtype=torch.float64)
    loss = Loss(prediction, target, weight=weight)
    reference = weight * ((prediction - target) ** 2).mean((1, 2))
    assert torch.allclose(loss.per_sample, reference)
    assert torch.allclose(loss.mean(), reference.mean())


def test_copies_are_averaged_within_their_sample():
    prediction, target = _pair()
    loss = Loss(prediction, target, copies=2)
    reference = ((prediction - target) ** 2).mean((1, 2)).reshape(2, 3).mean(0)
    assert torch.allclose(loss.per_sample, reference)
    assert torch.allclose(loss.mean(), reference.mean())


def test_reading_the_samples_does_not_change_the_scalar():
    prediction, target = (x.float() for x in _pair((64, 50)))
    one, two = Loss(prediction, target), Loss(prediction, target)
    assert two.per_sample.shape == (64,)
    assert torch.equal(one.mean(), two.mean())


def test_a_half_precision_prediction_is_reduced_in_float32():
    prediction, target = (x.float() for x in _pair())
    loss = Loss(prediction.bfloat16(), target)
    assert loss.mean().dtype == torch.float32
    assert torch.allclose(loss.mean(), Loss(prediction.bfloat16().float(), target).mean())


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(InputError, match=r"the network gave shape \(6, 1\) where the target has shape \(6,\)"):
        Loss(torch.zeros(6, 1), torch.zeros(6))
