"""A small set of rows in which every two values of different columns stand together (a pairwise covering array)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence, Set

Pair = tuple[tuple[str, str], tuple[str, str]]
Row = dict[str, str]


def pairs_of(row: Mapping[str, str]) -> set[Pair]:
    """All pairs that stand in a row, columns in their order."""
    return set(itertools.combinations(row.items(), 2))


def covering(columns: Mapping[str, Sequence[str]], without: Set[Pair], tries: int = 20, seed: int = 0) -> list[Row]:
    """Greedy rows until every allowed pair has stood in one that holds allowed pairs alone, as far as there is one.

    Args:
        columns: Values by column.
        without: Pairs that no row may hold.
        tries: Random completions tried per row; the one with most new pairs is taken.
        seed: Same seed, same rows.
    """
    draw = random.Random(seed)
    names = list(columns)
    wanted = {((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in columns[a] for y in columns[b]}
    still = sorted(wanted - without)
    rows: list[Row] = []
    while still:
        (a, x), (b, y) = still[0]
        rest = set(still)
        found = [row for _ in range(tries) if (row := _completed({a: x, b: y}, columns, names, without, draw))]
        if found:
            rows.append(max(found, key=lambda row: len(pairs_of(row) & rest)))
        done = pairs_of(rows[-1]) if found else set()
        still = [pair for pair in still[1:] if pair not in done]
    return rows


def _completed(
    start: Row, columns: Mapping[str, Sequence[str]], names: list[str], without: Set[Pair], draw: random.Random
) -> Row | None:
    """A row with these values and no forbidden pair, filled in random order; None where a column has nothing left."""
    row = dict(start)
    for name in draw.sample([name for name in names if name not in start], len(names) - len(start)):
        fits = [value for value in columns[name] if not _in_order(row | {name: value}, names) & without]
        if not fits:
            return None
        row[name] = draw.choice(fits)
    return {name: row[name] for name in names}


def _in_order(row: Row, names: list[str]) -> set[Pair]:
    return pairs_of({name: row[name] for name in names if name in row})
