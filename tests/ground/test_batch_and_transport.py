"""Labels and conditions follow their sample, dropout is per sample and per set, a score is refused with the reason."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from advect import Batch, InputError, Transport
from advect.conditions import ClassLabel, Conditions, Vector
from advect.couplings import Coupling, Paired, Pairs
from advect.randomness import generator, seed_of


@dataclass(frozen=True)
class Reverse(Coupling):
    """Pairs the first x0 with the last x1, so that everything that should follow x1 must move."""

    def __call__(
        self,
        x0: Tensor,
        x1: Tensor,
        cond: Mapping[str, Tensor] | None = None,
        rows: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Pairs:
        n = len(x1)
        return Pairs(None, torch.arange(n - 1, -1, -1), torch.zeros(n))


def batch(n: int = 6) -> Batch:
    index = torch.arange(n)
    return Batch(
        index[:, None].double(), {"label": index}, extras={"id": index}, dropped=index % 2 == 0, weight=index.double()
    )


def test_everything_follows_x1_through_a_coupling() -> None:
    out = Transport(coupling=Reverse()).pair(batch(), generator(0))
    assert out.x1.flatten().tolist() == [5, 4, 3, 2, 1, 0]
    assert out.cond["label"].tolist() == [5, 4, 3, 2, 1, 0]
    assert out.extras["id"].tolist() == [5, 4, 3, 2, 1, 0]
    assert out.weight is not None
    assert out.weight.tolist() == [5, 4, 3, 2, 1, 0]
    assert out.x0 is not None
    again = Transport().pair(batch(), generator(0))
    assert again.x0 is not None
    torch.testing.assert_close(out.x0, again.x0)


def test_paired_data_are_neither_drawn_nor_shuffled_and_must_bring_x0() -> None:
    paired = batch().replace(x0=-batch().x1)
    assert Transport(coupling=Paired()).pair(paired) is paired
    with pytest.raises(InputError, match="the data bring no x0"):
        Transport(coupling=Paired()).pair(batch())


def test_dropout_is_drawn_per_sample_and_per_set() -> None:
    conditions = Conditions((ClassLabel(10), Vector(2, "pose")), {"label": 0.2, "label,pose": 0.3})
    n = 40_000
    given = Batch(torch.zeros(n, 1), {"label": torch.full((n,), 4), "pose": torch.ones(n, 2)})
    out = conditions.drop_from(given, generator(1))
    no_label, no_pose = out.cond["label"] == 10, (out.cond["pose"] == 0).all(1)
    assert abs(no_label.double().mean() - 0.5) < 0.01
    assert abs(no_pose.double().mean() - 0.3) < 0.01
    assert bool((no_label | ~no_pose).all()), "the pose is dropped only together with the label"
    assert out.dropped is not None
    assert bool((out.dropped == no_pose).all())


@pytest.mark.parametrize(
    ("drop", "sentence"),
    [({"style": 0.1}, "drop names"), ({"label": 1.5}, "lies in"), ({"label": 0.7, "label,pose": 0.7}, "sum to")],
)
def test_wrong_dropout_is_refused(drop: dict[str, float], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Conditions((ClassLabel(10), Vector(2, "pose")), drop)


@pytest.mark.parametrize("labels", [torch.tensor([0, 12]), torch.tensor([-1, 2]), torch.tensor([0.5, 1.0])])
def test_labels_out_of_range_or_type_are_refused(labels: Tensor) -> None:
    with pytest.raises(InputError, match="label"):
        ClassLabel(10).check(labels)


def test_the_score_refusal_names_the_part_that_causes_it() -> None:
    assert Transport().score_refusal is None
    assert "Reverse" in (Transport(coupling=Reverse()).score_refusal or "")
    assert "reflow" in (Transport(inherited_refusal="no score after reflow").score_refusal or "")


def test_seeds_are_functions_of_the_path() -> None:
    assert seed_of(0, "train", 3) == seed_of(0, "train", 3)
    paths = [(0,), (1,), (0, "train", 3), (0, "train", 4), ("0", "train", 3), (0, "train", 33)]
    assert len({seed_of(*path) for path in paths}) == len(paths)
    assert all(0 <= seed_of(*path) < 2**63 for path in paths)
