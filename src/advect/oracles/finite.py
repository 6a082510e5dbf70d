"""A finite set of points as the law of data: what a network that fits its training set perfectly would say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from advect.errors import InputError
from advect.interpolants import AffineInterpolant, Interpolant, Kind, Linear
from advect.oracles.base import Carried, Oracle, choose, column_time, restrict
from advect.parts import Part
from advect.randomness import randint
from advect.sources import Gaussian as GaussianSource
from advect.sources import Source, StudentT
from advect.sources.kernels import log_density, point_logits


class FiniteData(Oracle):
    r"""p1 = (1/N) sum_i delta(x1 - x_i).

    The denoiser is a softmax over points, E[x1 | x_t] = sum_i x_i softmax_i(-|x - a x_i|^2 / (2 g^2)), and tends to the
    nearest point at g=0. The velocity has no limit there: it is infinite off the points.

    From a Student-t source the weights are (1 + |x - a x_i|^2 / (D g^2))^{-(N+D)/2}, and the score is not that of its
    x0 but s = -(N+D) E_w[(x - a x_i) / (|x - a x_i|^2 + D g^2)].

    Args:
        points: The data, nested to (N, *shape).
        labels: Class of each point, which `label=` asks for; its own index by default.

    Raises:
        InputError: If there are no points, or not one label for each.
    """

    def __init__(self, points: Sequence, labels: Sequence[int] | None = None) -> None:
        super().__init__()
        x = torch.as_tensor(points, dtype=torch.float64)
        if x.ndim < 2 or len(x) == 0:
            raise InputError(f"points have shape {tuple(x.shape)}: give at least one, nested to (N, *shape)")
        y = torch.arange(len(x)) if labels is None else torch.as_tensor(labels, dtype=torch.int64)
        if y.shape != (len(x),):
            raise InputError(f"labels have shape {tuple(y.shape)} for {len(x)} points: give one per point")
        self.shape = tuple(x.shape[1:])
        self.points: Tensor
        self.labels: Tensor
        self.register_buffer("points", x.flatten(1))
        self.register_buffer("labels", y)

    def on(self, interpolant: Interpolant = Linear(), source: Part = GaussianSource()) -> CarriedPoints:
        """Carry the points along an affine path from a Gaussian or a Student-t source."""
        if not isinstance(interpolant, AffineInterpolant):
            raise InputError(f"the path is {type(interpolant).__name__}: finite data have closed forms on affine ones")
        if not isinstance(source, Source) or (source.gaussian is None and not isinstance(source, StudentT)):
            raise InputError(
                f"source is {type(source).__name__}: finite data have closed forms for a Gaussian or Student-t source"
            )
        return CarriedPoints(self.points, self.labels, interpolant, source)

    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        i = randint(len(self.points), (n,), generator, device=self.points.device)
        return self.points[i].reshape(n, *self.shape), self.labels[i]


class CarriedPoints(Carried):
    """Fields of a finite data set along a path; made by ``FiniteData.on``."""

    def __init__(self, points: Tensor, labels: Tensor, path: AffineInterpolant, source: Source) -> None:
        self.points, self.labels, self.path, self.source = points, labels, path, source
        self.classes = int(labels.max()) + 1
        self.df = source.degrees if isinstance(source, StudentT) else None

    def responsibilities(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        return self._responsibilities(x, t, label).to(x.dtype)

    def _responsibilities(self, x: Tensor, t: Tensor | float, label: Tensor | None) -> Tensor:
        y, a, g, _, std = self._centred(x, t)
        return point_logits(y, self.points, a, g * std, self.df, self._kept(label)).softmax(1)

    def _kept(self, label: Tensor | None) -> Tensor | None:
        return None if label is None else (self.labels == label[:, None]) | (label[:, None] >= self.classes)

    def _centred(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor, Tensor, float, float]:
        mean, std = self.source.location_scale or (0.0, 1.0)
        time = column_time(t, x)
        time = time if time.ndim == 0 else time[:, :, 0]
        a, g = self.path.alpha(time), self.path.sigma(time)
        return x.flatten(1).double() - g * mean, a, g, mean, std

    def denoiser(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        return self._convert(x, t, label, "x1")

    def velocity(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        return self._convert(x, t, label, "v")

    def score(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        if self.df is None:
            return self._convert(x, t, label, "score")
        y, a, g, _, std = self._centred(x, t)
        pull = self._responsibilities(x, t, label) / (self._squares(y, a) + self.df * (g * std) ** 2)
        mean_offset = pull.sum(1, keepdim=True) * y - a * (pull @ self.points)
        return (-(y.shape[1] + self.df) * mean_offset).reshape(x.shape).to(x.dtype)

    def source_mean(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        return self._convert(x, t, label, "x0")

    def _convert(self, x: Tensor, t: Tensor | float, label: Tensor | None, want: Kind) -> Tensor:
        x1 = (self._responsibilities(x, t, label) @ self.points).reshape(x.shape)
        wide = x.double()
        return self.path.convert(x1, wide, t, "x1", want, self.source).to(x.dtype)

    def log_prob(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        y, a, g, _, std = self._centred(x, t)
        each = log_density(self._squares(y, a), g * std, y.shape[1], self.df)
        logits = restrict(each, self.labels, self.classes, label)
        count = torch.isfinite(restrict(torch.zeros_like(logits), self.labels, self.classes, label)).sum(1)
        return (logits.logsumexp(1) - count.log()).to(x.dtype)

    def _squares(self, y: Tensor, a: Tensor) -> Tensor:
        """|y - a x_i|^2, (B, N)."""
        return (y[:, None] - (a[..., None] if a.ndim else a) * self.points).square().sum(-1)

    def posterior(
        self, x: Tensor, t: Tensor | float, generator: torch.Generator | None = None, *, label: Tensor | None = None
    ) -> Tensor:
        i = choose(self._responsibilities(x, t, label), generator)
        return self.points[i].reshape(x.shape).to(x.dtype)
