"""Laws of all sources: shapes, seeds, config, density against draws, score against autograd."""

from __future__ import annotations

import copy
import math

import pytest
import torch

import advect.sources as sources
from advect import InputError, Transport
from advect.parts import build, config_of
from advect.randomness import NumberedGenerator, randn
from advect.sources import (
    ChiSphere,
    ClusterVonMisesFisher,
    FittedMixture,
    FromData,
    Gaussian,
    GaussianMixture,
    MaskedFrequencies,
    Mixture,
    NormAligned,
    PrunedSource,
    Source,
    StudentT,
    VonMisesFisher,
)

MEANS = ((2.0, 0.0), (-1.0, 1.0), (0.0, -2.0))


def _stored(shape: tuple[int, ...] = (2,), noise: float = 0.0, n: int = 200) -> FromData:
    x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return FromData(noise=noise).fit(x)


def _fitted(source: Source, shape: tuple[int, ...] = (2,)) -> Source:
    x = torch.randn(300, *shape, generator=_seeded(6), dtype=torch.float64)
    return source.fit(1.0 + x, None, _seeded())


ALL = {
    "Gaussian": lambda: Gaussian(),
    "Gaussian 2, 1": lambda: Gaussian(2.0, 1.0),
    "GaussianMixture": lambda: GaussianMixture(MEANS, (0.3, 0.5, 1.0), (1.0, 2.0, 3.0)),
    "FromData": lambda: _stored(),
    "FromData with noise": lambda: _stored(noise=0.2),
    "Mixture": lambda: Mixture((Gaussian(0.5, 2.0), Gaussian(1.0), _stored(noise=0.3)), (1.0, 2.0, 1.0)),
    "StudentT": lambda: StudentT(30.0),
    "Mixture without density": lambda: Mixture((Gaussian(), _stored())),
    "NormAligned": lambda: _fitted(NormAligned()),
    "ChiSphere": lambda: ChiSphere(scale=0.5),
    "ChiSphere of directions": lambda: ChiSphere(VonMisesFisher(5.0, (1.0, 2.0)), "mean"),
    "PrunedSource": lambda: PrunedSource.of(torch.tensor([[1.0, 0.0]], dtype=torch.float64), tau=0.2),
    "VonMisesFisher": lambda: VonMisesFisher(5.0, (1.0, 2.0)),
    "ClusterVonMisesFisher": lambda: _fitted(ClusterVonMisesFisher(3, 20.0)),
    "FittedMixture": lambda: _fitted(FittedMixture(2)),
    "MaskedFrequencies": lambda: _fitted(MaskedFrequencies(2.0), (1, 8, 8)),
}
WITHOUT_DENSITY = ("FromData", "Mixture without density", "ChiSphere of directions", "PrunedSource", "VonMisesFisher",
                   "ClusterVonMisesFisher", "MaskedFrequencies")  # fmt: skip
every = pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
with_density = pytest.mark.parametrize("make", [m for name, m in ALL.items() if name not in WITHOUT_DENSITY])


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _shape(source: Source) -> tuple[int, ...]:
    return (1, 8, 8) if isinstance(source, MaskedFrequencies) else (2,)


def test_every_source_is_tested():
    members = {m for m in vars(sources).values() if isinstance(m, type) and issubclass(m, Source)} - {Source}
    assert members == {type(make()) for make in ALL.values()}


@every
def test_shape_type_and_seed(make):
    source: Source = make()
    shape = (500, *_shape(source))
    draws = [source.sample(shape, None, _seeded(s), dtype=torch.float64) for s in (0, 0, 1)]
    assert draws[0].shape == shape
    assert draws[0].dtype == torch.float64
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@every
def test_config_and_state_bring_the_same_source_back(make):
    source: Source = make()
    again = build(config_of(source))
    if isinstance(source, torch.nn.Module):
        again = again.to(torch.float64)
        again.load_state_dict(source.state_dict())
    for other in (again, copy.deepcopy(source)):
        draws = [s.sample((50, *_shape(source)), None, _seeded(), dtype=torch.float64) for s in (source, other)]
        assert torch.equal(*draws)


@every
def test_a_sample_depends_on_its_seed_and_number_alone(make):
    """However the samples are cut into batches, also where draws are rejected, and also in what is drawn afterwards."""
    source: Source = make()

    def draw(first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = NumberedGenerator(3, "law", first=first, count=count)
        return source.sample((count, *_shape(source)), None, generator), randn((count, 2), generator)

    whole, after = draw(0, 150)
    for first, count in ((0, 40), (40, 100), (140, 10)):
        x, later = draw(first, count)
        torch.testing.assert_close(x, whole[first : first + count], rtol=1e-5, atol=1e-6)
        assert torch.equal(later, after[first : first + count])


@every
def test_draws_of_single_precision_from_double_numbers(make):
    source: Source = make()
    x0 = source.sample((20, *_shape(source)), None, _seeded(), dtype=torch.float32)
    assert x0.dtype == torch.float32
    assert bool(torch.isfinite(x0).all())


@with_density
def test_density_integrates_to_one_and_has_the_moments_of_the_draws(make):
    """On a grid over the plane: total mass, mean and mean square against 2e5 draws."""
    source: Source = make()
    axis = torch.arange(-12.0, 12.0, 0.1, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    p = torch.cat([source.log_prob(part).exp() for part in grid.split(20_000)]) * 0.1**2
    x = source.sample((200_000, 2), None, _seeded(), dtype=torch.float64)
    assert p.sum() == pytest.approx(1.0, abs=1e-6)
    for k in (0, 1):
        spread = float(x[:, k].std())
        assert (p * grid[:, k]).sum() == pytest.approx(float(x[:, k].mean()), abs=5 * spread / math.sqrt(2e5))
        assert (p * grid[:, k] ** 2).sum() == pytest.approx(float((x[:, k] ** 2).mean()), rel=0.02)


@with_density
def test_score_is_the_gradient_of_the_density(make):
    source: Source = make()
    x = (2 * torch.randn(20, 2, generator=_seeded(), dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(source.log_prob(x).sum(), x)
    assert torch.allclose(source.score(x), gradient, atol=1e-10)


def test_a_density_that_is_not_known_is_none():
    x = torch.zeros(3, 2)
    for source in (_stored(), Mixture((Gaussian(), _stored()))):
        assert source.log_prob(x) is None
        assert source.score(x) is None


def test_only_a_gaussian_source_gives_the_velocity_a_score():
    for make in ALL.values():
        source = make()
        gaussian = isinstance(source, (Gaussian, NormAligned)) or (
            isinstance(source, ChiSphere) and source.scale == 0.5
        )
        assert (Transport(source).score_refusal is None) == gaussian


def test_stored_samples_of_any_shape_come_back_unchanged():
    source = _stored((3, 4, 4), n=7)
    drawn = source.sample((100, 3, 4, 4), None, _seeded(), dtype=torch.float64)
    match = (drawn[:, None] == source.samples[None]).flatten(2).all(-1)
    assert match.any(1).all()
    assert match.any(0).all()  # all seven turn up
    assert source.sample((5, 3, 4, 4), None, _seeded(), dtype=torch.float32).dtype == torch.float32


def test_stored_samples_are_part_of_a_transport_and_its_state():
    transport = Transport(_stored(n=9))
    assert transport.state_dict()["source.samples"].shape == (9, 2)


def test_mixture_weights_are_the_shares_of_the_draws():
    source = Mixture((Gaussian(1e-3, 0.0), Gaussian(1e-3, 5.0)), (1.0, 3.0))
    x = source.sample((100_000, 2), None, _seeded())
    assert (x > 2.5).all(1).float().mean() == pytest.approx(0.75, abs=5e-3)
    assert ((x > 2.5).all(1) == (x > 2.5).any(1)).all()  # one component per sample, not per coordinate


def test_rows_of_one_sample_share_their_component():
    rows = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3] * 1).sort().values
    for source in (
        Mixture((Gaussian(1e-3, 0.0), Gaussian(1e-3, 5.0))),
        GaussianMixture(((0.0, 0.0), (5.0, 5.0)), 1e-3),
    ):
        high = source.sample((10, 2), None, _seeded(3), rows=rows)[:, 0] > 2.5
        assert all(high[rows == sample].unique().numel() == 1 for sample in range(4))
        assert high.any()
        assert not high.all()


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="FromData holds no samples"):
        FromData().sample((3, 2))
    with pytest.raises(InputError, match=r"stored samples have shape \(2,\)"):
        _stored().sample((3, 4))
    with pytest.raises(InputError, match="x1 holds NaN or infinity"):
        FromData().fit(torch.tensor([[float("nan")]]))
    with pytest.raises(InputError, match=r"x1 has shape \(0, 2\)"):
        FromData().fit(torch.zeros(0, 2))
    with pytest.raises(InputError, match=r"noise=-1\.0"):
        FromData(noise=-1.0)
    with pytest.raises(InputError, match="give one or more means of equal length"):
        GaussianMixture(((0.0,), (1.0, 2.0)))
    with pytest.raises(InputError, match=r"std is 0\.0 for 3 means"):
        GaussianMixture(MEANS, 0.0)
    with pytest.raises(InputError, match="for 3 components: give one finite weight"):
        GaussianMixture(MEANS, 1.0, (1.0, 2.0))
    with pytest.raises(InputError, match=r"states of shape \(B, 2\)"):
        GaussianMixture(MEANS).sample((5, 3))
    with pytest.raises(InputError, match="components is empty"):
        Mixture(())
    with pytest.raises(InputError, match="std is 0"):
        Gaussian(0)


def test_bad_settings_of_norms_and_directions_are_refused():
    x = torch.randn(20, 2, generator=_seeded())
    for bad, sentence in (
        (lambda: PrunedSource(tau=1.0), "tau is 1.0"),
        (lambda: PrunedSource(max_rounds=0), "max_rounds is 0"),
        (lambda: PrunedSource.of(torch.zeros(1, 2)), "finite and none of them 0"),
        (lambda: PrunedSource.of(torch.eye(2)).sample((2, 2), rows=torch.tensor([0, 0])), "ragged rows"),
        (lambda: PrunedSource.of(torch.eye(3)).sample((2, 2)), "rejected axes have 3 coordinates"),
        (lambda: NormAligned().sample((2, 2)), "NormAligned has no scale yet"),
        (lambda: NormAligned().fit(torch.zeros(4, 2)), "mean norm 0"),
        (lambda: NormAligned().fit(torch.zeros(0, 2)), "at least one sample"),
        (lambda: ChiSphere(scale=0.0), "scale is 0"),
        (lambda: ChiSphere(dimension=0), "dimension is 0"),
        (lambda: ChiSphere(radius="one"), "radius is 'one'"),  # pyright: ignore[reportArgumentType]
        (lambda: VonMisesFisher(-1.0), "kappa is -1"),
        (lambda: VonMisesFisher(mean=(0.0, 0.0)), "a direction is finite and not 0"),
        (lambda: VonMisesFisher(mean=(1.0, 0.0)).sample((2, 3)), "mean direction has 2 coordinates"),
        (lambda: VonMisesFisher().sample((2, 3)), "reads x1 as its mean"),
        (lambda: ClusterVonMisesFisher(0), "clusters is 0"),
        (lambda: ClusterVonMisesFisher(30).fit(x), "for 30 clusters"),
        (lambda: FittedMixture(2, floor=0.0), "floor=0.0"),
        (lambda: FittedMixture(30).fit(x), "for 30 components"),
        (lambda: FittedMixture(1).fit(torch.ones(9, 2)), "no spread"),
        (lambda: FittedMixture(1).fit(x).sample((2, 3)), "the state has 3 coordinates"),
        (lambda: MaskedFrequencies(0.0), "variance=0.0"),
        (lambda: MaskedFrequencies().fit(torch.zeros(9, 3, 9, 9)), "multiples of 8"),
        (lambda: MaskedFrequencies(1e9, mean=1e9).fit(torch.rand(9, 1, 8, 8)), "lower `variance`"),
    ):
        with pytest.raises(InputError, match=sentence):
            bad()


def test_a_mixture_in_half_precision_chooses_the_components_of_the_whole_one():
    x = torch.randn(200, 6, generator=_seeded()) + 4 * (torch.arange(200) % 3 - 1)[:, None]
    for source in (ClusterVonMisesFisher(3, 200.0), FittedMixture(3)):
        source.fit(x, None, _seeded())
        whole, half = (s.sample((100, 6), None, _seeded()) for s in (source, copy.deepcopy(source).half()))
        torch.testing.assert_close(half, whole, rtol=0, atol=0.05)
