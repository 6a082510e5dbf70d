"""Forks of numbered generators: what rejection draws, however often, moves no other number."""

from __future__ import annotations

import torch

from advect.randomness import NumberedGenerator, forked, randn


def _numbered(first: int, count: int) -> NumberedGenerator:
    return NumberedGenerator(7, "test", first=first, count=count)


def test_a_fork_depends_on_the_number_of_the_sample_alone():
    whole = randn((200, 3), forked(_numbered(0, 200)))
    part = randn((100, 3), forked(_numbered(70, 100)))
    assert torch.equal(whole[70:170], part)


def test_some_samples_of_a_fork_see_what_they_would_see_among_all():
    index = torch.tensor([3, 64, 65, 130, 199])
    whole = randn((200, 3), forked(_numbered(0, 200)))
    some = forked(_numbered(0, 200), index)
    assert torch.equal(randn((5, 3), some), whole[index])
    fewer = forked(forked(_numbered(0, 200), index), torch.tensor([1, 4]))
    assert torch.equal(randn((2, 3), fewer), randn((200, 3), forked(forked(_numbered(0, 200))))[index[[1, 4]]])
    shifted = forked(_numbered(60, 140), index[1:] - 60)
    assert torch.equal(randn((4, 3), shifted), whole[index[1:]])


def test_forks_differ_and_leave_the_stream_where_it_is():
    plain, parent = _numbered(0, 80), _numbered(0, 80)
    first, second = forked(parent), forked(parent)
    assert not torch.equal(randn((80, 2), first), randn((80, 2), second))
    assert torch.equal(randn((80, 2), parent), randn((80, 2), plain))


def test_a_plain_generator_gives_one_number_to_its_fork():
    a, b = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    one, other = forked(a), forked(b)
    randn((1000,), one)
    assert torch.equal(randn((5,), a), randn((5,), b))
    assert not torch.equal(randn((5,), one), randn((5,), other))
    assert forked(None) is None
