"""How claims are summarised and decided, and how pages are found."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from advect import systems
from advect.errors import InputError
from advect.metrics import EnergyDistance
from advect.randomness import generator, randn
from advect.systems.framework import (
    Claim,
    Curves,
    Figures,
    Measured,
    Outcome,
    Pictures,
    Rule,
    Scatter,
    Setting,
    Table,
    Tuned,
    bounded,
    compared,
    distance_to,
    in_turn,
    settings_table,
)
from advect.systems.framework.plots import draw
from advect.systems.framework.runner import _average, _summary

COMMON = {"scale": "cpu"}


@pytest.mark.parametrize(
    ("rule", "better", "measured", "holds"),
    [
        (Rule("improvement", low=8), "lower", Measured(1.0, 8.0), True),
        (Rule("improvement", low=8), "lower", Measured(1.0, 7.9), False),
        (Rule("improvement", low=2), "higher", Measured(4.0, 2.0), True),
        (Rule("improvement", low=2), "higher", Measured(1.0, 2.0), False),
        (Rule("improvement", high=1.2), "lower", Measured(1.0, 1.1), True),
        (Rule("improvement", high=1.2), "lower", Measured(1.0, 1.3), False),
        (Rule("ours", 1.93, 2.1), "higher", Measured(2.0), True),
        (Rule("ours", 1.93, 2.1), "higher", Measured(1.4), False),
        (Rule("ours", high=1.0), "lower", Measured(math.nan), False),
        (Rule("improvement", low=8), "lower", Measured(1.0, None), False),
    ],
)
def test_rule_decides(rule, better, measured, holds):
    assert rule(measured, better) is holds


def test_a_claim_holds_only_if_every_seed_does_and_spread_is_of_the_ratio():
    claim = Claim("gain", "error", "lower", Rule("improvement", low=2.0), paper=31.0)
    good = _summary(claim, [Measured(1.0, 4.0, calls=1), Measured(1.0, 2.0)], COMMON)
    assert good["holds"] is True
    assert good["ratio"] == pytest.approx((0.25 + 0.5) / 2)
    assert good["spread"] == pytest.approx(math.sqrt(2) * 0.125)
    assert (good["ours"], good["baseline"], good["seeds"], good["calls"]) == (1.0, 3.0, 2, 1)
    assert _summary(claim, [Measured(1.0, 4.0), Measured(1.0, 1.9)], COMMON)["holds"] is False
    one = _summary(Claim("free", "error", "lower", None), [Measured(3.0)], COMMON)
    assert (one["holds"], one["ratio"], one["spread"], one["baseline"]) == (None, None, None, None)


def test_tables_are_averaged_over_seeds():
    tables = [Table("t", "T", ("solver", "5"), [("Euler", [a]), ("none", [None])]) for a in (1.0, 3.0)]
    assert _average(tables)["rows"] == [["Euler", 2.0], ["none", None]]


def test_outcome_survives_json_and_is_drawn(tmp_path):
    outcome = Outcome(
        {"gain": Measured(1.0, 2.0)},
        [Curves("c", "C", "x", "y", {"a": ([1.0, 2.0], [3.0, 4.0])}, log="xy")],
        [Table("t", "T", ("solver", "5"), [("Euler", [1.0])])],
        [Scatter("s", "S", {"data": [[0.0, 1.0]], "ours": [[1.0, 0.0]]})],
        [Pictures("p", "P", {"gray": [[[0, 255], [1, 2]]] * 3, "data": [[[9, 9], [9, 9]]]})],
        ["a note"],
    )
    back = Outcome.from_json(json.loads(json.dumps(outcome.to_json())))
    assert back.values == outcome.values
    assert back.notes == outcome.notes
    assert draw([back, back], tmp_path, "cpu") == ["cpu-c.png", "cpu-s.png", "cpu-p.png"]
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("cpu-c.png", "cpu-s.png", "cpu-p.png"))


def test_unknown_slug_names_near_misses():
    with pytest.raises(InputError, match="no system is called 'rectifid-flow': did you mean rectified-flow"):
        systems.get("rectifid-flow")


def test_what_cannot_be_run_is_refused_before_any_process_starts():
    with pytest.raises(InputError, match="scale is 'tpu': rectified-flow runs at cpu"):
        systems.reproduce("rectified-flow", scale="tpu")
    with pytest.raises(InputError, match="seeds is 0: at least 1"):
        systems.reproduce("rectified-flow", seeds=0)


def test_every_page_is_complete_and_names_importable_parts():
    pages = systems.all_systems()
    assert {"principles", "rectified-flow", "stochastic-interpolants"} <= {page.slug for page in pages}
    for page in pages:
        assert page.slug in systems.slugs()
        assert page.title
        assert page.arxiv
        assert page.purpose.endswith(".")
        assert page.claims
        assert len({claim.name for claim in page.claims}) == len(page.claims)
        names = [name for parts in page.seat_names().values() for name in parts]
        assert names
        assert all(name.startswith("advect.") for name in names)


def test_claims_of_one_line_judge_what_they_say():
    claim = compared("gain", "error", "ours", "theirs", low=2.0, paper=31.0, cause="too small")
    assert claim == Claim("gain", "error", "lower", Rule("improvement", low=2.0), 31.0, "ours", "theirs", "too small")
    assert compared("free", "error", "ours", "theirs").rule is None
    assert bounded("free", "error").rule is None
    assert compared("control", "error", "ours", "theirs", high=1.0).rule == Rule("improvement", high=1.0)
    assert bounded("order", "log2 of a ratio", low=1.93, high=2.1, better="higher").rule == Rule("ours", 1.93, 2.1)


def test_figures_give_claim_table_and_plot_the_same_numbers():
    samples = {"ours": [torch.tensor([1.0]), torch.tensor([2.0])], "theirs": [torch.tensor([4.0])]}
    found = Figures.of(lambda x: float(x), (5, 20), samples)
    assert found.at("ours", 20) == 2.0
    assert found.against("ours", "theirs", 5) == Measured(1.0, 4.0, calls=5)
    assert found.against("ours", "theirs", 5, calls=10).calls == 10
    with pytest.raises(ValueError):
        found.at("ours", 10)
    plot = found.curves("c", "C", "steps", "error", levels={"floor": 0.5})
    assert plot.lines == {
        "ours": ([5.0, 20.0], [1.0, 2.0]), "theirs": ([5.0], [4.0]), "floor": ([5.0, 20.0], [0.5, 0.5]),
    }  # fmt: skip


def test_table_fills_short_rows_and_shows_references_below_their_rows():
    table = Table.of("t", "T", ("arm", "5", "20"), {"ours": [1.0, 2.0], "theirs": [4.0]}, {"ours": [1.5]})
    assert table.rows == [("ours", [1.0, 2.0]), ("ours, reference run", [1.5, None]), ("theirs", [4.0, None])]


def test_plots_take_tensors_and_rows_that_are_ready():
    grey = torch.zeros(30, 1, 2, 2)
    assert Pictures.of("p", "P", {"x": grey, "ready": [[[0]]]}).images == {
        "x": [[[128] * 2] * 2] * 20,
        "ready": [[[0]]],
    }
    assert Scatter.of("s", "S", {"x": torch.tensor([[0.5, 1.0]])}).points == {"x": [[0.5, 1.0]]}


def test_distance_is_the_metric_against_these_samples():
    real = randn((200, 2), generator(0, "real"))
    distance = distance_to(EnergyDistance(), real)
    assert distance(real[:100]) < distance(real[:100] + 1.0)
    assert distance(real[:100]) == EnergyDistance()(real[:100], real, resamples=0).value


def test_parts_of_an_experiment_add_to_one_outcome(tmp_path):
    def first(setting, out):
        out.values["a"] = Measured(setting.seed)

    def second(setting, out):
        out.values["b"] = Measured(out.values["a"].ours + 1)

    assert in_turn(first, second)(Setting("cpu", 3, False, tmp_path)).values == {"a": Measured(3), "b": Measured(4)}


def test_pages_of_one_file_and_of_several_are_found_and_nothing_else():
    folder = Path(systems.__file__).parent
    pages = {path.stem if path.is_file() else path.name for path in folder.iterdir() if has_system(path)}
    assert systems.slugs() == sorted(name.replace("_", "-") for name in pages)
    assert {"boss", "rectified-flow"} <= set(systems.slugs())


def has_system(path):
    page = path / "__init__.py" if path.is_dir() else path
    return page.suffix == ".py" and page.exists() and "\nSYSTEM = System(" in page.read_text()


def test_a_setting_is_chosen_by_what_is_kept_for_choosing_and_all_are_shown():
    arms = {
        "ours": Tuned.of({"small": 3.0, "large": 2.0}, lambda made: made),
        "theirs": Tuned.of({"small": 1.0, "large": 2.0}, lambda made: made),
    }
    assert [(arm.setting, arm.best) for arm in arms.values()] == [("large", 2.0), ("small", 1.0)]
    table = settings_table("s", "S", ("reported",), arms, lambda arm, made: [-made if arm == "ours" else 10 * made])
    assert table.columns == ("arm and setting", "when choosing", "reported", "chosen (share of seeds)")
    assert table.rows == [
        ("ours, small", [3.0, -3.0, 0.0]),
        ("ours, large", [2.0, -2.0, 1.0]),
        ("theirs, small", [1.0, 10.0, 1.0]),
        ("theirs, large", [2.0, 20.0, 0.0]),
    ]


@pytest.mark.parametrize("order", [("diverged", "good"), ("good", "diverged")])
def test_a_setting_that_diverged_is_not_chosen(order):
    figure = {"diverged": math.nan, "good": 5.0}
    assert Tuned.of({name: name for name in order}, figure.__getitem__).best == "good"
