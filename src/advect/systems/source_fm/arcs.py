"""A plane in which pruning can be understood: three arcs with the radii of pictures, and how every arm is judged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from advect.couplings import Coupling, Independent
from advect.data import Tensors
from advect.flow import Flow
from advect.interpolants import ChangedPath, Linear, SourceScaled
from advect.metrics import nearest, sliced_w2
from advect.networks import MLP
from advect.randomness import gamma, generator, randn
from advect.solvers import Euler
from advect.sources import ChiSphere, Source, chi_mean
from advect.systems.framework import Measured, Setting
from advect.training import TrainSettings, train
from advect.transport import Transport

SHARES = (51, 307, 666)  # points of the three arcs
EMPTY, FULL = (10, 70, 130), (40, 170, 300)  # centres of the arcs in degrees: one side of the plane empty, or none
COUNTS = (5, 20, 100)

# by Euler steps: mean distance to the nearest target, share farther than 1, sliced W2
Found = dict[int, tuple[float, float, float]]


def arcs(centres: tuple[int, ...], seed: int) -> Tensor:
    """1024 points on three arcs of 20 degrees, with the norms of a Gaussian of 625 dimensions."""
    g = generator(seed, "arcs")
    angle = torch.cat([c + torch.linspace(-10, 10, n) for c, n in zip(centres, SHARES, strict=True)])
    angle = (angle + randn(angle.shape, g)) * math.pi / 180
    radius = (2 * gamma(625 / 2, angle.shape, g)).sqrt()
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


def lengths(points: Tensor) -> tuple[tuple[str, ChiSphere], tuple[str, ChiSphere]]:
    """The source with the radii of a Gaussian of 3072 dimensions, and the one as long as the points on average."""
    c = alignment(points)
    return ("", ChiSphere(dimension=3072)), (", norm-aligned", ChiSphere(scale=c, dimension=3072))


def alignment(points: Tensor) -> float:
    """The factor between the mean norms of points and noise."""
    return float(points.norm(dim=1).mean()) / chi_mean(3072)


@dataclass(frozen=True)
class Bench:
    """How every arm is trained and sampled.

    Args:
        setting: Seed and length of the run.
    """

    setting: Setting

    @property
    def samples(self) -> int:
        """Number of samples, all from one draw of the source."""
        return self.setting.pick(4000, 500)

    def train(self, points: Tensor, source: Source, pairs: Coupling = Independent()) -> Flow:
        """A flow to these points."""
        settings = TrainSettings(
            steps=self.setting.pick(5000, 300), batch_size=256, lr=1e-3, optimizer="adam", betas=(0.9, 0.999),
            clip=None, warmup=0, ema=None, device="cpu",
        )  # fmt: skip
        return train(
            lambda spec: MLP(spec, hidden=(64, 64, 64)),
            Tensors(points),
            transport=Transport(source, pairs),
            settings=settings,
            seed=self.setting.seed,
        )

    def draw(self, flow: Flow, steps: int, source: Source | None = None) -> Tensor:
        """Samples after so many Euler steps, from the flow's own source or from another."""
        n = self.samples
        return flow.sample(n, seed=self.setting.seed, solver=Euler(), steps=steps, source=source, batch_size=n)

    def by_steps(self, flow: Flow, points: Tensor, source: Source | None = None) -> Found:
        """The figures by number of Euler steps."""
        return {k: _figures(self.draw(flow, k, source), points) for k in COUNTS}

    def on_aligned_path(self, flow: Flow, points: Tensor) -> Found:
        """The same network, stepped on the path of the aligned source: alignment as a time shift, without training."""
        c = alignment(points)
        field = ChangedPath(flow.network, Linear(), SourceScaled(Linear(), c))
        z = flow.transport.source.sample((self.samples, 2), None, generator(self.setting.seed, "shifted"))
        with torch.no_grad():
            return {k: _figures(Euler()(field, c * z, k), points) for k in COUNTS}


def _figures(x: Tensor, points: Tensor) -> tuple[float, float, float]:
    distance = nearest(x, points)[0][:, 0]
    evenly = points[torch.linspace(0, len(points) - 1e-3, len(x)).long()]  # as many targets, their shares kept
    return float(distance.mean()), float((distance > 1).float().mean()), float(sliced_w2(x, evenly))


def row(found: Found) -> list[float]:
    """The columns of the table."""
    return [*(found[k][0] for k in COUNTS), *(found[k][1] for k in COUNTS), found[20][2]]


def against(ours: Found, baseline: Found, steps: int) -> Measured:
    """The mean distance to the nearest target of two arms."""
    return Measured(ours[steps][0], baseline[steps][0], calls=steps)
