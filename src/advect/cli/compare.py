"""``advect compare``: several flows on one page, quality against network calls and seconds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from advect.cli.evaluate import data_of
from advect.cli.flows import open_flow, with_weak
from advect.cli.parsing import instantiate, new_parser, parse
from advect.cli.run_report import CALLS, conditions_like, held_out, metrics_for
from advect.data import Data
from advect.errors import InputError
from advect.files import write_json
from advect.metrics import Metric
from advect.report import Page, Quality, add, facts, measure_calls, quality_items
from advect.saving import versions
from advect.training.processes import find_device


@dataclass(frozen=True)
class Comparison:
    """On what, and by what.

    Args:
        data: Real data; None takes those that the first flow was trained on.
        metrics: Figures to take; None takes those of `advect evaluate`.
        weak: The weaker flow that flows under AutoGuidance compare with: its folder or name.
        calls: Numbers of network calls.
        n: Samples per flow and number of calls.
        seed: Seed of the samples: the same for all, so that all start from the same noise.
        batch_size: Samples integrated together.
        device: "auto" takes a GPU if there is one.
        trust_remote_code: Whether classes outside advect that a flow names may be imported.
    """

    data: Data | None = None
    metrics: list[Metric] | None = None
    weak: str | None = None
    calls: list[int] = field(default_factory=lambda: list(CALLS))
    n: int = 1000
    seed: int = 0
    batch_size: int = 500
    device: str = "auto"
    trust_remote_code: bool = False


def run(arguments: Sequence[str]) -> int:
    """Measure every flow at every number of calls, and write the page and JSON."""
    parser = new_parser("compare", "Compare flows: quality against network calls and seconds, on one page.")
    parser.add_argument(
        "flows", nargs="+", help="run folders, folders with a flow.json, or flows that ship with advect"
    )
    parser.add_argument("-o", "--out", default="runs/compare.html", help="the page; figures go to the same name .json")
    parser.add_class_arguments(Comparison, as_group=False)
    given = parse(parser, arguments)
    built = instantiate(parser, given)
    how = Comparison(**{name: built[name] for name in Comparison.__dataclass_fields__})
    if how.n < 4:
        raise InputError(f"n is {how.n}: a figure with an interval takes at least 4 samples")
    trusted = how.trust_remote_code
    flows = {path: with_weak(open_flow(path, trusted), how.weak, trusted) for path in dict.fromkeys(given.flows)}
    first = next(iter(flows.values()))
    data = data_of(first, how.data, how.trust_remote_code)
    if differing := [path for path, flow in flows.items() if flow.shape != first.shape]:
        raise InputError(
            f"{differing[0]} has samples of another shape than {given.flows[0]}: compare flows of one shape"
        )
    real, other = held_out(data, how.n)
    metrics = how.metrics or metrics_for(data)
    series: dict[str, list[Quality]] = {}
    for path, flow in flows.items():
        flow.to(find_device(how.device))
        series[path] = measure_calls(
            flow,
            how.calls,
            metrics,
            real,
            other_real=other,
            n=how.n,
            seed=how.seed,
            cond=conditions_like(flow, real, how.n),
            batch_size=how.batch_size,
        )
        print(f"measured {path}", file=sys.stderr)
    page = Page("Comparison", f"{', '.join(flows)} against {type(data).__name__}, from the same noise.")
    add(page, "Quality by network calls", quality_items(series))
    add(
        page,
        "How it was made",
        [facts({"seed": how.seed, "command": f"advect compare {' '.join(arguments)}"} | versions())],
    )
    out = Path(given.out)
    page.write(out)
    write_json(out.with_suffix(".json"), {path: [q.as_dict() for q in found] for path, found in series.items()})
    print(f"written to {out}")
    return 0
