"""The Student-t source: seeds, ragged rows, settings, and what it says to the user."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from advect import InputError
from advect.interpolants import KINDS, Linear
from advect.networks import MLP, NetSpec, Prediction
from advect.parts import build, config_of
from advect.randomness import NumberedGenerator
from advect.sources import FromData, Gaussian, StudentT
from advect.sources.kernels import log_density, log_weights
from advect.sources.student_t import overflow_share

F64 = torch.float64


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_sample_depends_on_its_number_alone():
    whole = StudentT(5).sample((200, 3), None, NumberedGenerator(0, "s", first=0, count=200))
    part = StudentT(5).sample((50, 3), None, NumberedGenerator(0, "s", first=70, count=50))
    assert torch.equal(whole[70:120], part)


def test_the_normal_numbers_are_those_of_the_gaussian_source():
    t, z = StudentT(5).sample((100, 8), None, _seeded()), Gaussian().sample((100, 8), None, _seeded())
    ratio = t / z
    torch.testing.assert_close(ratio, ratio[:, :1].expand(-1, 8))
    assert ratio[:, 0].unique().numel() == 100  # and each sample has a radius of its own


def test_rows_of_one_sample_share_their_radius():
    rows = torch.tensor([0, 2, 0, 1, 1, 2, 3])
    t = StudentT(2.5).sample((7, 4), None, _seeded(), rows=rows, dtype=F64)
    z = Gaussian().sample((7, 4), None, _seeded(), dtype=F64)
    ratio = (t / z).mean(1)
    for sample in range(4):
        assert torch.allclose(ratio[rows == sample], ratio[rows == sample][0])
    assert ratio.round(decimals=9).unique().numel() == 4


def test_a_picture_has_one_radius():
    t, z = (s.sample((6, 3, 4, 4), None, _seeded(), dtype=F64) for s in (StudentT(3), Gaussian()))
    ratio = (t / z).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand(-1, 48))


def test_degrees_are_checked_and_said():
    for bad in (0, -3, float("nan"), "many", True):
        with pytest.raises(InputError, match="degrees of freedom of StudentT are a number above 0"):
            StudentT(bad)  # pyright: ignore
    assert StudentT(math.inf) == StudentT(None)
    with pytest.warns(UserWarning, match="df is 'auto', so StudentT takes 128 degrees"):
        automatic = StudentT()
    assert automatic == StudentT(128)
    assert config_of(automatic)["init_args"] == {"df": 128.0}  # a Flow keeps the number
    with pytest.warns(UserWarning, match="the mean radius of the source is infinite"):
        StudentT(1).sample((2, 2))
    with pytest.warns(UserWarning, match="the mean square of the source is infinite"):
        StudentT(2).sample((2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StudentT(3).sample((2, 2))
        build(config_of(automatic)).sample((2, 2))


def test_draws_that_would_overflow_their_type_are_refused():
    with pytest.raises(InputError, match=r"about 0\.004 of the draws leave the range of float16"):
        StudentT(1).sample((2, 2), dtype=torch.float16)
    with pytest.raises(InputError, match="leave the range of float32"):
        StudentT(0.05).sample((2, 2), dtype=torch.float32)
    assert StudentT(128).sample((200, 16), dtype=torch.float16).isfinite().all()
    # the bound is one: n draws of |x0| noise against the share, at the type of half precision
    with pytest.warns(UserWarning, match="infinite"):
        x = 80 * StudentT(1).sample((200_000, 1), None, _seeded(), dtype=F64).abs()
    share = (x > torch.finfo(torch.float16).max).double().mean()
    assert 0.1 * overflow_share(1, torch.float16) < share < overflow_share(1, torch.float16)


def test_its_kinds_of_prediction_are_those_of_a_gaussian_of_its_scale_without_the_score():
    x0, x1, t = torch.randn(5, 2, dtype=F64), torch.randn(5, 2, dtype=F64), torch.tensor(0.3, dtype=F64)
    for kind in KINDS:
        if kind == "score":
            with pytest.raises(InputError, match="StudentT, which is not Gaussian, so there is no score"):
                Linear().of_pair(x0, x1, t, kind, StudentT(4))
            continue
        torch.testing.assert_close(
            Linear().of_pair(x0, x1, t, kind, StudentT(4)), Linear().of_pair(x0, x1, t, kind, Gaussian())
        )
    network = Prediction(MLP(NetSpec((2,)), size="XS"), "F", source=StudentT(4))
    with pytest.raises(InputError, match="so there is no score conversion"):
        network.score(x0, t)
    with pytest.raises(InputError, match="not Gaussian"):  # of a source without a scale
        Prediction(MLP(NetSpec((2,)), size="XS"), "F", source=FromData(1, (2,)))


def test_weights_and_density_agree_far_out_and_have_their_limits():
    square = torch.tensor([[1.0, 2.0, 5.0]], dtype=F64)
    for df in (None, 0.5, 7.0):
        for s in (0.1, 3.0):
            scale = torch.tensor(s, dtype=F64)
            logits = log_density(square, scale, 2000, df)
            relative = log_weights(square - 1, square[:, :1], scale, 2000, df)
            torch.testing.assert_close(logits - logits[:, :1], relative, rtol=1e-9, atol=1e-8)
    zero = torch.tensor(0.0, dtype=F64)
    ends = log_weights(square - 1, square[:, :1], zero, 6, 2.0).exp()
    torch.testing.assert_close(ends, (1 / square) ** 4)  # (nearest / distance)^{N+D}
    on_a_point = log_weights(square - 1, torch.zeros(1, 1, dtype=F64), zero, 6, 2.0).exp()
    assert on_a_point.tolist() == [[1.0, 0.0, 0.0]]
    assert log_weights(square - 1, square[:, :1], zero, 6, None).exp().tolist() == [[1.0, 0.0, 0.0]]
