"""Times broadcast as a leading part of the state's shape, and nothing else passes silently."""

import pytest
import torch

from advect import InputError
from advect.broadcasting import as_time, expand_time, per_sample_time


@pytest.mark.parametrize(
    ("t", "x", "expanded"),
    [
        ((), (4, 3), ()),
        ((4,), (4, 3), (4, 1)),
        ((4,), (4, 3, 8, 8), (4, 1, 1, 1)),
        ((4, 7), (4, 7, 2), (4, 7, 1)),
        ((9,), (9, 2), (9, 1)),
    ],
)
def test_a_leading_part_passes(t: tuple[int, ...], x: tuple[int, ...], expanded: tuple[int, ...]) -> None:
    assert expand_time(torch.rand(t), torch.rand(x)).shape == expanded


@pytest.mark.parametrize(
    ("t", "x"),
    [((4, 1), (4, 3)), ((1,), (4, 3)), ((3,), (4, 3)), ((4,), (3, 4)), ((7,), (4, 7, 2)), ((4, 3, 1), (4, 3))],
)
def test_what_would_broadcast_silently_is_refused(t: tuple[int, ...], x: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="not a leading part of x's shape"):
        expand_time(torch.rand(t), torch.rand(x))


def test_time_takes_the_type_of_the_state() -> None:
    x = torch.zeros(2, 3, dtype=torch.float64)
    assert as_time(0.1, x).dtype == torch.float64
    assert float(as_time(0.1, x)) == 0.1
    assert as_time(torch.tensor(0.5), x).dtype == torch.float64


def test_one_time_per_sample() -> None:
    x = torch.zeros(5, 2)
    assert per_sample_time(0.25, x).tolist() == [0.25] * 5
    with pytest.raises(InputError, match="one time per sample"):
        per_sample_time(torch.rand(5, 2), x)
