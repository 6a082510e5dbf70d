"""A tiny run, trained once for all tests of the command line, and a way to call it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

for module in ("jsonargparse", "rich", "yaml", "matplotlib", "PIL", "safetensors"):
    pytest.importorskip(module)

RECIPE = """
name: tiny
data: Digits
network:
  class_path: MLP
  init_args: {hidden: [16]}
drop: {label: 0.1}
train: {steps: 4, batch_size: 16, log_every: 2, sample_every: 2, sample_count: 4, tensorboard: false}
"""


class Cli:
    """Calls the command line in this process and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        from advect.cli import main

        self.capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = self.capsys.readouterr()
        return code, out, err

    def refusal(self, *arguments: object) -> str:
        """The one sentence with which it refuses, exit code 2, no traceback."""
        code, _, err = self(*arguments)
        assert code == 2
        assert err.startswith("advect: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        return err


@pytest.fixture
def cli(capsys):
    return Cli(capsys)


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> Path:
    """A run folder, trained once."""
    from advect.cli import main

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(RECIPE)
    assert main(["train", str(folder / "tiny.yaml"), "--folder", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Whatever is written without a name lands in a temporary folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert os.listdir(tmp_path) in ([], ["tiny.yaml"])
