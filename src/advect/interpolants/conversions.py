r"""The one table of predictions on an affine path, and the algebra between them.

Every prediction is a sum of the two ends. With N(m, s^2) the source, eps = (x0 - m)/s and G = s g:

    "v"                a' x1 + g' x0            "x1", "sample"     x1
    "x0"               x0                       "epsilon"          eps
    "score"            -(x0 - m) / (s^2 g)      "v_prediction"     a x0 - g x1
    "trigflow"         (a x0 - g x1) / s        "flow_prediction"  x0 - x1
    "F"                (G/(d n)) x1 - (a d/n) eps,   n = sqrt(G^2 + a^2 d^2),   d = data_std

A prediction p x1 + q x0 together with x = a x1 + g x0 gives both ends (a 2x2 system with determinant D = a q - g p),
and so every other prediction, as a sum ``A x + B value + C``. Denominators that vanish at an end are cancelled in
closed form wherever the limit exists.

"epsilon", "sample", "v_prediction" are the names of diffusers; "flow_prediction" is its flow target noise - data (= -v
on the linear path). "F" is EDM's network (arXiv 2206.00364, section 5), "trigflow" sCM's (arXiv 2410.11081): on the
cosine path with source N(0, s^2), v = -(pi/2) s F.

Source: arXiv 2510.21890; "score" holds only for a Gaussian source that is independent of the data. The others hold for
any source of location m and scale s (a Student-t).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, get_args

import torch
from torch import Tensor

from advect.errors import InputError

if TYPE_CHECKING:
    from advect.interpolants.affine import AffineInterpolant

Kind = Literal[
    "v", "x1", "x0", "score", "F", "trigflow", "epsilon", "sample", "v_prediction", "flow_prediction"
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(Kind)
Number = Tensor | float
Row = tuple[Number, Number]

# kinds whose meaning rests on the source's mean and spread; the others are algebra of the path alone
_OF_SOURCE = ("score", "epsilon", "F", "trigflow")


class HasGaussian(Protocol):
    """What a conversion asks of a source: (mean, standard deviation) if it is an isotropic Gaussian, else None.

    A source that is none may have a `location_scale` (m, s): enough for all kinds but the score.
    """

    @property
    def gaussian(self) -> tuple[float, float] | None: ...


def moments(source: HasGaussian, *kinds: str) -> tuple[float, float]:
    """Mean and standard deviation of the source; (0, 1) where none of these kinds rests on them.

    Raises:
        InputError: If a kind rests on a Gaussian source and the source is none.
    """
    if not any(kind in _OF_SOURCE for kind in kinds):
        return 0.0, 1.0
    if source.gaussian is not None:
        return source.gaussian
    # a scale is all that the others need: they are sums of the two ends, whatever the law
    scaled = getattr(source, "location_scale", None)
    if scaled is not None and "score" not in kinds:
        return scaled
    refused = [kind for kind in kinds if kind == "score" or scaled is None]
    raise InputError(
        f"the source is {type(source).__name__}, which is not Gaussian, so there is no {' or '.join(refused)} "
        "conversion: use v, x1 or x0"
    )


def check_kind(kind: str) -> None:
    """Refuse an unknown kind of prediction with a sentence that lists the known ones."""
    if kind not in KINDS:
        raise InputError(f"the prediction kind is {kind!r}: choose one of {', '.join(KINDS)}")


def combine(value: Tensor, x: Tensor, on_x: Number, on_value: Number, constant: Number) -> Tensor:
    """A x + B value + C in as few operations as the plain numbers among A, B, C allow."""
    if isinstance(on_x, Tensor):
        out = on_x * x + on_value * value
    elif on_x == 0.0:
        out = on_value * value
    elif on_x == 1.0 and not isinstance(on_value, Tensor):
        out = x.add(value, alpha=on_value)
    else:
        out = (on_value * value).add(x, alpha=on_x)
    return out if not isinstance(constant, Tensor) and constant == 0.0 else out + constant


def weights(
    path: AffineInterpolant, t: Tensor, have: str, want: str, mean: float, std: float, data_std: float
) -> tuple[Number, Number, Number]:
    """(A, B, C) with prediction `want` = A x + B (prediction `have`) + C, each of t's shape."""
    check_kind(have)
    check_kind(want)
    on_x, on_value = _centred(path, t, have, want, std, data_std)
    if mean == 0.0:
        return on_x, on_value, 0.0
    # predictions of x - g m carry no constant: take the mean off before and put it back after
    before = on_x * path.sigma(t) + on_value * _of_mean(path, t, have, std)
    return on_x, on_value, mean * (_of_mean(path, t, want, std) - before)


def of_pair(
    path: AffineInterpolant, x0: Tensor, x1: Tensor, t: Tensor, want: str, mean: float, std: float, data_std: float
) -> Tensor:
    """The prediction `want` of a known pair; t broadcasts against it."""
    check_kind(want)
    if want == "v":
        return path.d_alpha(t) * x1 + path.d_sigma(t) * x0
    if want == "epsilon":
        return (x0 - mean) / std
    if want == "score":
        return (mean - x0) / (std**2 * path.sigma(t))
    p, q = _row(path, t, want, std, data_std)
    out = q * x0 + p * x1
    return out - q * mean if want == "F" and mean != 0.0 else out


def _centred(path: AffineInterpolant, t: Tensor, have: str, want: str, std: float, data_std: float) -> Row:
    """(A, B) for a source of mean 0."""
    if want in ("x1", "sample"):
        return _x1(path, t, have, std, data_std)
    if want == "v":
        return _v(path, t, have, std, data_std)
    on_x, on_value = _x0(path, t, have, std, data_std)
    if want == "x0":
        return on_x, on_value
    if want == "epsilon":
        return on_x / std, on_value / std
    if want == "score":
        scale = -1 / (std**2 * path.sigma(t))
        return on_x * scale, on_value * scale
    p, q = _row(path, t, want, std, data_std)
    x1_x, x1_value = _x1(path, t, have, std, data_std)
    return p * x1_x + q * on_x, p * x1_value + q * on_value


def _x1(path: AffineInterpolant, t: Tensor, have: str, std: float, data_std: float) -> Row:
    """x1 = A x + B value."""
    if have in ("x1", "sample"):
        return 0.0, 1.0
    if have == "v":
        return path.ends_of_velocity(t)[:2]
    a, g = path.alpha(t), path.sigma(t)
    if (scale := _x0_per_value(path, t, have, std)) is not None:
        return 1 / a, -g * scale / a
    _, q = _row(path, t, have, std, data_std)
    d = _determinant(path, t, have, std, data_std)
    return q / d, -g / d


def _x0(path: AffineInterpolant, t: Tensor, have: str, std: float, data_std: float) -> Row:
    """x0 - m = A x + B value."""
    if have == "v":
        return path.ends_of_velocity(t)[2:]
    if have in ("x1", "sample"):
        g = path.sigma(t)
        return 1 / g, -path.alpha(t) / g
    if (scale := _x0_per_value(path, t, have, std)) is not None:
        return 0.0, scale
    p, _ = _row(path, t, have, std, data_std)
    d = _determinant(path, t, have, std, data_std)
    return -p / d, path.alpha(t) / d


def _v(path: AffineInterpolant, t: Tensor, have: str, std: float, data_std: float) -> Row:
    """v = A x + B value; g' appears as g g' wherever its own factor g is there, so that it may be infinite."""
    if have == "v":
        return 0.0, 1.0
    c = path.coefficients(t)
    if have in ("x1", "sample"):
        return c.dg / c.g, c.delta / c.g
    if have == "score":
        return c.da / c.a, std**2 * (c.da * c.g**2 / c.a - path.sigma_d_sigma(t))
    if (scale := _x0_per_value(path, t, have, std)) is not None:
        return c.da / c.a, -c.delta * scale / c.a
    d = _determinant(path, t, have, std, data_std)
    p, q = _row(path, t, have, std, data_std)
    if have == "flow_prediction":
        return (c.da * q - c.dg * p) / d, -c.delta / d
    p_over_g = _source_row_over_sigma(path, t, have, std, data_std)
    return (c.da * q - path.sigma_d_sigma(t) * p_over_g) / d, -c.delta / d


def _x0_per_value(path: AffineInterpolant, t: Tensor, have: str, std: float) -> Number | None:
    """x0 - m per unit of a prediction that speaks of the source alone; None for the others."""
    if have == "x0":
        return 1.0
    if have == "epsilon":
        return std
    return -(std**2) * path.sigma(t) if have == "score" else None


def _row(path: AffineInterpolant, t: Tensor, kind: str, std: float, data_std: float) -> Row:
    """(p, q) with prediction = p x1 + q (x0 - m)."""
    if kind == "flow_prediction":
        return -1.0, 1.0
    a, g = path.alpha(t), path.sigma(t)
    if kind == "v_prediction":
        return -g, a
    if kind == "trigflow":
        return -g / std, a / std
    n = _norm(a, g, std, data_std)
    return g * std / (data_std * n), -a * data_std / (n * std)


def _source_row_over_sigma(path: AffineInterpolant, t: Tensor, kind: str, std: float, data_std: float) -> Number:
    """p / g of :func:`_row`, for the kinds whose p has the factor g."""
    if kind == "v_prediction":
        return -1.0
    if kind == "trigflow":
        return -1.0 / std
    return std / (data_std * _norm(path.alpha(t), path.sigma(t), std, data_std))


def _determinant(path: AffineInterpolant, t: Tensor, kind: str, std: float, data_std: float) -> Tensor:
    """D = a q - g p, above 0 in size at all times."""
    a, g = path.alpha(t), path.sigma(t)
    if kind == "flow_prediction":
        return a + g
    if kind == "F":
        return -_norm(a, g, std, data_std) / (data_std * std)
    return (a**2 + g**2) / (1.0 if kind == "v_prediction" else std)


def _norm(a: Tensor, g: Tensor, std: float, data_std: float) -> Tensor:
    """n = sqrt(s^2 g^2 + d^2 a^2): the standard deviation of x_t for data of standard deviation d."""
    return torch.hypot(std * g, data_std * a)


def _of_mean(path: AffineInterpolant, t: Tensor, kind: str, std: float) -> Number:
    """What one unit of the source's mean adds to a prediction."""
    if kind == "v":
        return path.d_sigma(t)
    if kind == "v_prediction":
        return path.alpha(t)
    if kind == "trigflow":
        return path.alpha(t) / std
    return 1.0 if kind in ("x0", "flow_prediction") else 0.0
