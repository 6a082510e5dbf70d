"""`advect calibrate` runs a Fit, keeps its part beside the flow, and `--fitted` puts the part into its seat."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import pytest

from advect.fitting import Fit
from advect.sources import FromData


class Found(FromData):
    """A source that was found on a flow's weights."""

    def __init__(self, size: int = 0, shape: tuple[int, ...] = (), fitted_on: str | None = None) -> None:
        super().__init__(size, shape)
        self.fitted_on = fitted_on


@dataclass(frozen=True)
class FitFound(Fit):
    """Keeps some data as the source.

    Args:
        most: How many.
    """

    most: int = 3

    @property
    def name(self) -> str:
        return "found"

    @property
    def needs_data(self) -> bool:
        return True

    def __call__(self, flow, data=None, *, seed=0, cond=None):
        x1 = flow.codec.encode(data.x1[: self.most])
        part = Found(len(x1), tuple(x1.shape[1:]), flow.weights_hash())
        part.samples = x1
        return part

    def summary(self, part):
        return [f"kept {part.size} samples"]


@pytest.fixture
def run(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate") / "run"
    shutil.copytree(tiny_run, folder)
    return folder


TRUST = ("--trust_remote_code", "true")  # the part is none of advect
FIT = ("--fit", f"{__name__}.FitFound")


def test_a_part_is_found_kept_and_used(cli, run):
    code, out, _ = cli("calibrate", run, *FIT, "--fit.most", 4)
    assert code == 0
    assert "kept 4 samples" in out
    assert "use it with --fitted found" in out
    code, out, _ = cli("sample", run, "--fitted", "[found]", "-n", 4, "-o", "x.npz", *TRUST)
    assert code == 0
    assert "is given too: give one" in cli.refusal("sample", run, "--fitted", "[found]", "--source", "Gaussian", *TRUST)
    found = next(run.rglob("fitted/found/part.json"))
    changed = json.loads(found.read_text())
    changed["part"]["init_args"]["fitted_on"] = "0" * 64
    found.write_text(json.dumps(changed))
    assert "fit it again on this flow" in cli.refusal("sample", run, "--fitted", "[found]", "-n", 4, *TRUST)


def test_what_is_missing_is_named(cli, run):
    assert "the flow is missing" in cli.refusal("calibrate", *FIT)
    assert "found for this flow are none: advect calibrate" in cli.refusal("sample", run, "--fitted", "[found]")
    assert "n is 1: a fit looks at 2 samples" in cli.refusal("calibrate", run, *FIT, "--n", 1)
