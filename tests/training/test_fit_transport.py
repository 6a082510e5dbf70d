"""Sources and couplings that are found on data are fitted at the start of a training, and saved with the Flow."""

from __future__ import annotations

import torch
from torch import Tensor

from advect.codecs import Standardize
from advect.couplings import Coupling, Pairs
from advect.networks import MLP
from advect.parts import ModulePart
from advect.sources import Gaussian, Source
from advect.training import train
from advect.transport import Transport


class Scaled(ModulePart, Source):
    """As wide as the data."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.zeros(()))

    @property
    def fitted(self) -> bool:
        return bool(self.scale > 0)

    def fit(self, x1, cond=None, generator=None):
        self.scale = x1.std()

    def sample(self, shape, cond=None, generator=None, *, rows=None, x1=None, dtype=None, device=None):
        return Gaussian().sample(shape, cond, generator, dtype=dtype, device=device) * self.scale


class Noted(ModulePart, Coupling):
    """Keeps the mean square of both ends."""

    squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("squares", torch.zeros(2))

    @property
    def fitted(self) -> bool:
        return bool(self.squares.any())

    def fit(self, x0, x1, cond=None, generator=None):
        self.squares = torch.stack([x0.square().mean(), x1.square().mean()])

    def __call__(self, x0, x1, cond=None, rows=None, generator=None):
        return Pairs()


def trained(codec=None, seed: int = 0):
    x1 = 5 * torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
    transport = Transport(Scaled(), Noted())
    return train(MLP, x1, transport=transport, codec=codec, steps=2, batch_size=8, seed=seed, device="cpu").transport


def test_source_and_coupling_are_fitted_on_states():
    found = trained()
    torch.testing.assert_close(found.source.scale, torch.tensor(5.0), rtol=0.03, atol=0)
    torch.testing.assert_close(found.coupling.squares, torch.tensor([25.0, 25.0]), rtol=0.05, atol=0)
    encoded = trained(Standardize())
    torch.testing.assert_close(encoded.source.scale, torch.tensor(1.0), rtol=0.01, atol=0)


def test_the_same_seed_fits_the_same_numbers():
    assert torch.equal(trained().coupling.squares, trained().coupling.squares)
