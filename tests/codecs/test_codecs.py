"""Laws of every codec: decode undoes encode, the shape is as announced, the log-determinant is the true one."""

import pytest
import torch

from advect import InputError
from advect.codecs import Codec, Identity, PixelUnshuffle, Standardize
from advect.parts import build, config_of

SHAPE = (2, 4, 4)


def members() -> list[Codec]:
    x = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0)) * 3 + 1
    return [Identity(), PixelUnshuffle(2), Standardize().fit(x), Standardize(per_feature=False).fit(x)]


@pytest.mark.parametrize("codec", members(), ids=lambda c: type(c).__name__)
def test_decode_undoes_encode(codec: Codec) -> None:
    x = torch.randn(5, *SHAPE)
    z = codec.encode(x)
    assert z.shape[1:] == codec.latent_shape(SHAPE)
    assert codec.data_shape(codec.latent_shape(SHAPE)) == SHAPE
    torch.testing.assert_close(codec.decode(z), x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("codec", members(), ids=lambda c: type(c).__name__)
def test_log_determinant_is_that_of_the_jacobian(codec: Codec) -> None:
    codec = codec.double()
    x = torch.randn(SHAPE, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda y: codec.encode(y[None])[0])(x).reshape(32, 32)
    assert codec.log_abs_det(SHAPE) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), abs=1e-9)


@pytest.mark.parametrize("codec", members(), ids=lambda c: type(c).__name__)
def test_rebuilt_and_loaded_codec_gives_the_same_numbers(codec: Codec) -> None:
    again = build(config_of(codec))
    again.load_state_dict(codec.state_dict())
    x = torch.randn(3, *SHAPE).to(next(iter(codec.buffers()), torch.zeros(())).dtype)
    torch.testing.assert_close(again.to(x.dtype).encode(x), codec.encode(x), rtol=0, atol=0)


def test_standardize_gives_mean_zero_and_variance_one_per_feature() -> None:
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    x = x * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, 2.0, -9.0])
    z = Standardize().fit(x).encode(x)
    # float32 resolves the shift of 9 to 5e-7, which is 5e-6 of the deviation of .1
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=2e-5, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(3), atol=1e-5, rtol=0)


def test_a_constant_feature_is_named() -> None:
    x = torch.randn(10, 3)
    x[:, 1] = 4
    with pytest.raises(InputError, match=r"feature \[\[1\]\] of the data is constant"):
        Standardize().fit(x)


def test_blocks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"cannot be cut into blocks of 2 x 2"):
        PixelUnshuffle(2).latent_shape((3, 5, 4))
