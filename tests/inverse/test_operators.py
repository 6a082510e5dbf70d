"""Laws of all operators: linear, adjoint, pseudo-inverse, resolvent, norm, noise; and what each one does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from advect.errors import InputError
from advect.inverse.operators import (
    AverageDown,
    BicubicDown,
    Box,
    Denoising,
    GaussianBlur,
    MaskFile,
    MotionBlur,
    Operator,
    RandomProjections,
    Strokes,
)
from advect.parts import build, config_of

F64 = torch.float64
OPERATORS: list[tuple[Operator, tuple[int, int, int]]] = [
    (Box(1, 2, 3, 4), (3, 8, 10)),
    (Strokes(0.4), (2, 12, 9)),
    (AverageDown(2), (3, 8, 12)),
    (AverageDown(3), (1, 9, 6)),
    (BicubicDown(2), (3, 8, 12)),
    (BicubicDown(3), (1, 12, 9)),
    (GaussianBlur(1.2), (2, 9, 7)),
    (MotionBlur(5), (2, 9, 8)),
    (RandomProjections(20), (1, 6, 7)),
    (Denoising(), (3, 5, 4)),
]
IDS = [f"{type(operator).__name__}-{k}" for k, (operator, _) in enumerate(OPERATORS)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).flatten(1).sum(1)


@pytest.mark.parametrize(("operator", "shape"), OPERATORS, ids=IDS)
def test_laws_of_operators(operator, shape):
    x, other = draw(3, *shape), draw(3, *shape, seed=1)
    y = draw(3, *operator.output_shape(shape), seed=2)
    assert operator(x).shape == y.shape
    assert (operator(2 * x - other) - (2 * operator(x) - operator(other))).abs().max() < 1e-12
    assert (operator(x)[1:2] - operator(x[1:2])).abs().max() < 1e-14  # samples do not see each other
    assert (dot(operator(x), y) - dot(x, operator.adjoint(y, shape))).abs().max() < 1e-12
    if operator.gram is not None:
        assert (operator(operator.adjoint(y, shape)) - operator.gram * y).abs().max() < 1e-12
    solved = operator.solve(y, 0.7, 0.2, shape)
    assert (0.7 * operator(operator.adjoint(solved, shape)) + 0.2 * solved - y).abs().max() < 1e-5
    largest = torch.linalg.matrix_norm(matrix_of(operator, shape), 2) ** 2
    assert operator.norm_squared(shape) == pytest.approx(float(largest), rel=2e-3)
    assert config_of(build(config_of(operator))) == config_of(operator)
    assert torch.equal(build(config_of(operator))(x), operator(x))
    assert operator(x.float()).dtype == torch.float32


@pytest.mark.parametrize(("operator", "shape"), OPERATORS, ids=IDS)
def test_back_projections_bear_their_right_name(operator, shape):
    a, y = matrix_of(operator, shape), draw(2, *operator.output_shape(shape))
    back = operator.back_projection(y, shape).flatten(1)
    exact = y.flatten(1) @ torch.linalg.pinv(a).T
    is_pinv = bool((back - exact).abs().max() < 1e-9)
    assert is_pinv == (operator.back_projection_is == "pseudo-inverse")
    if operator.back_projection_is == "adjoint":
        assert (back - y.flatten(1) @ a).abs().max() < 1e-12
    if not isinstance(operator, MotionBlur):  # whose smallest eigenvalues are out of reach of conjugate gradients
        assert (operator.pinv(y, shape).flatten(1) - exact).abs().max() < 1e-6 * max(1.0, float(exact.abs().max()))


def matrix_of(operator: Operator, shape: tuple[int, int, int]) -> torch.Tensor:
    n = shape[0] * shape[1] * shape[2]
    return operator(torch.eye(n, dtype=F64).reshape(n, *shape)).flatten(1).T


def test_noise_has_its_standard_deviation_and_its_seed():
    operator, x = AverageDown(2, noise=0.3), draw(200, 1, 8, 8)
    y = operator.measure(x, torch.Generator().manual_seed(1))
    assert float((y - operator(x)).std()) == pytest.approx(0.3, rel=0.05)
    assert torch.equal(y, operator.measure(x, torch.Generator().manual_seed(1)))
    assert torch.equal(AverageDown(2, noise=0.0).measure(x), operator(x))


def test_reductions_agree_with_those_of_torch():
    x = draw(2, 3, 32, 32)
    assert (AverageDown(4)(x) - F.avg_pool2d(x, 4)).abs().max() < 1e-12
    inner = F.interpolate(x, scale_factor=0.25, mode="bicubic", antialias=True)
    assert (BicubicDown(4)(x) - inner)[..., 2:-2, 2:-2].abs().max() < 1e-6  # edges differ: mirrored here
    constant = torch.full((1, 1, 12, 12), 0.7, dtype=F64)
    for operator in (AverageDown(3), BicubicDown(2), BicubicDown(3), GaussianBlur(2.0), MotionBlur(5)):
        assert (operator(constant) - 0.7).abs().max() < 1e-6


def test_motion_kernels_are_drawn_once_by_their_seed_and_saved():
    one, same, other = MotionBlur(9, seed=1), MotionBlur(9, seed=1), MotionBlur(9, seed=2)
    assert torch.equal(one.kernel, same.kernel)
    assert not torch.equal(one.kernel, other.kernel)
    assert float(one.kernel.sum()) == pytest.approx(1.0, abs=1e-6)
    assert bool((one.kernel >= 0).all())
    assert "kernel" in one.state_dict()
    line = MotionBlur(9, intensity=0.0, seed=3).kernel
    rows, columns = (line > 0.01).nonzero().double().T
    assert abs(float(torch.corrcoef(torch.stack([rows, columns]))[0, 1])) > 0.8 or rows.std() * columns.std() == 0


def test_masks_from_files(tmp_path):
    from advect.report.pictures import save_png

    seen = torch.rand(6, 8, generator=torch.Generator().manual_seed(0)) > 0.5
    save_png(tmp_path / "mask.png", (seen.float() * 2 - 1)[None, None])
    np.save(tmp_path / "mask.npy", seen.numpy())
    for name in ("mask.png", "mask.npy"):
        assert torch.equal(MaskFile(str(tmp_path / name)).observed(6, 8), seen)
    x = draw(2, 3, 6, 8)
    y = MaskFile(str(tmp_path / "mask.npy"))(x)
    assert y.shape == (2, 3 * int(seen.sum()))
    assert (MaskFile(str(tmp_path / "mask.npy")).back_projection(y, (3, 6, 8)) - x * seen).abs().max() == 0
    hidden = 1 - float(Strokes(0.3, seed=4).observed(64, 64).float().mean())
    assert 0.3 <= hidden < 0.5


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: AverageDown(2, noise=-1.0), "noise is -1.0"),
        (lambda: AverageDown(3).output_shape((3, 8, 9)), "factor is 3, which does not divide a side of 8"),
        (lambda: BicubicDown(1), "factor is 1: a picture is made at least 2 times smaller"),
        (lambda: Box(4, 4, 6, 2).output_shape((3, 8, 8)), "leaves the picture of 8x8: make it smaller or move it"),
        (lambda: Box(0, 0, 8, 8).output_shape((3, 8, 8)), "hides every pixel"),
        (lambda: Box(0, 0, 0, 2), "give sides of at least 1"),
        (lambda: Strokes(1.0), "share is 1.0"),
        (lambda: MaskFile("nowhere.png"), "there is no mask at nowhere.png"),
        (lambda: GaussianBlur(0.0), "std is 0.0"),
        (lambda: MotionBlur(4), "size is 4: the side of a kernel is odd"),
        (lambda: MotionBlur(17).output_shape((3, 8, 8)), "too wide a kernel for a picture of 8x8"),
        (lambda: RandomProjections(100).output_shape((1, 8, 8)), "count is 100, but a picture has 64 values"),
        (lambda: RandomProjections(8).picture_shape((1, 8, 8)), "cannot show random projections"),
        (lambda: AverageDown(2).output_shape((64,)), "takes pictures (C, H, W), not samples of shape (64,)"),
    ],
)
def test_what_does_not_fit_is_named(make, sentence):
    with pytest.raises(InputError) as refused:
        make()
    assert sentence in str(refused.value)
