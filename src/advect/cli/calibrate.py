"""``advect calibrate``: run a flow to find numbers (a grid, pruned axes, weights, a scale), and keep them beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from advect.cli.evaluate import data_of
from advect.cli.flows import Sampling, conditions_for, flow_folder, make_own, open_for, open_own
from advect.cli.parsing import instantiate, new_parser, parse
from advect.cli.run_report import some
from advect.data import Data
from advect.errors import InputError
from advect.files import write_json
from advect.fitting import Fit
from advect.guidance import Guidance
from advect.inverse.weights import PriorWeights
from advect.parts import Part, config_of
from advect.saving import refuse_name, save_fitted
from advect.sources import Source
from advect.times import Grid
from advect.training.processes import find_device


@dataclass(frozen=True)
class Search:
    """What is looked for, and on what.

    Args:
        fit: The search (class name, arguments after it: ``--fit FitBellman --fit.n 200``).
        data: Data it looks at; None takes those that the flow was trained on (their training split).
        n: Samples of the data at most.
        name: What the part is called; None for the name its kind has.
    """

    fit: Fit
    data: Data | None = None
    n: int = 5000
    name: str | None = None


def run(arguments: Sequence[str]) -> int:
    """Fit, print what was found, and write it into the folder of the flow."""
    parser = new_parser("calibrate", "Run a flow to find numbers, and keep them beside it: fitted/NAME.")
    parser.add_argument(
        "flow",
        nargs="?",
        default=None,
        help="run folder, folder with a flow.json or of a diffusers pipeline, or a flow that ships with advect",
    )
    parser.add_argument("-o", "--out", default=None, help="JSON file of the part, where there is no flow to keep it by")
    parser.add_class_arguments(Search, as_group=False)
    parser.add_class_arguments(Sampling, as_group=False)
    given = parse(parser, arguments)
    built = instantiate(parser, given)
    search = Search(**{name: built[name] for name in Search.__dataclass_fields__})
    how = Sampling(**{name: built[name] for name in Sampling.__dataclass_fields__})
    fit = search.fit
    if search.n < 2:
        raise InputError(f"n is {search.n}: a fit looks at 2 samples or more")
    if given.flow is None and fit.needs_flow:
        raise InputError(f"the flow is missing: {type(fit).__name__} runs one, so name its folder")
    flow = None if given.flow is None else open_for(open_own(given.flow), how).to(find_device(how.device))
    cond = None
    if flow is not None:
        flow.sampler = flow.sampler.but(**how.sampler_part(flow))
        given_one = {name: value for name, value in how.cond.items() if value != "each"}  # what each fit does anyway
        known = conditions_for(flow, how.cond, 0, 1)
        cond = {name: known[name] for name in given_one if name in known}
    data = None
    if fit.needs_data:
        if flow is None and search.data is None:
            raise InputError(f"data is missing: {type(fit).__name__} looks at data, so name them with --data CLASS")
        found = search.data if flow is None else data_of(flow, search.data, how.trust_remote_code)
        assert found is not None
        data = some(found, "train", search.n)
    name = fit.name if search.name is None else search.name
    refuse_name(name)  # before the search, which may be long
    part = fit(flow, data, seed=how.seed, cond=cond)
    for line in fit.summary(part):
        print(line)
    if given.flow is not None:
        folder = make_own(given.flow)
        save_fitted(folder, name, part)
        print(f"written to {folder / 'fitted' / name}{_use(part, name)}")
        if folder != flow_folder(given.flow):
            print(f"{given.flow} stays as it ships: name {folder} to use what was found")
    if given.out is not None:
        write_json(Path(given.out), config_of(part))
        print(f"written to {given.out}")
    return 0


def _use(part: Part, name: str) -> str:
    """How a command takes the part, where one does: a pair weight is for a recipe."""
    if isinstance(part, (Grid, Source, Guidance)):
        return f"; use it with --fitted {name}"
    return f"; advect restore takes it with --weights {name}" if isinstance(part, PriorWeights) else ""
