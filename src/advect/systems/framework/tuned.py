"""Arms that are tuned alike: each is run at as many settings, and one is chosen on what is kept for choosing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from advect.systems.framework.outcome import Table

T = TypeVar("T")


@dataclass(frozen=True)
class Tuned(Generic[T]):
    """One arm at each of its settings, and the figure by which one of them is chosen.

    Choose by other noise and other real samples than those of the report: the least of several figures is an
    optimistic one of the arm that has it.

    Args:
        made: What each setting gave: a flow, a grid, a way to draw samples.
        checked: By setting, the figure on what is kept for choosing; lower is better, and one that is not finite is
            never chosen while another is.
    """

    made: Mapping[str, T]
    checked: Mapping[str, float]

    @classmethod
    def of(cls, made: Mapping[str, T], check: Callable[[T], float]) -> Tuned[T]:
        """Every setting checked."""
        return cls(made, {name: check(each) for name, each in made.items()})

    @property
    def setting(self) -> str:
        """The setting that was chosen; the first one of equals."""
        finite = {name: value if math.isfinite(value) else math.inf for name, value in self.checked.items()}
        return min(finite, key=finite.__getitem__)

    @property
    def best(self) -> T:
        """What the chosen setting gave."""
        return self.made[self.setting]


def settings_table(
    name: str,
    title: str,
    columns: Sequence[str],
    arms: Mapping[str, Tuned[T]],
    reported: Callable[[str, T], Sequence[float]],
) -> Table:
    """A row for every arm and setting: also what was not chosen is shown.

    Args:
        name: The table's name.
        title: The title.
        columns: What `reported` gives, in words.
        arms: The arms by name.
        reported: The figures of an arm at one setting on what is kept for the report: takes the arm's name and what
            the setting gave.
    """
    heads = ("arm and setting", "when choosing", *columns, "chosen (share of seeds)")
    rows = {
        f"{arm}, {setting}": [tuned.checked[setting], *reported(arm, each), float(setting == tuned.setting)]
        for arm, tuned in arms.items()
        for setting, each in tuned.made.items()
    }
    return Table.of(name, title, heads, rows)
