"""The README keeps its word: its ten lines run with torch and numpy alone, its commands are accepted."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def required(name: str) -> set[str]:
    """A distribution and all it requires, without extras."""
    found, waiting = set(), [name]
    while waiting:
        name = waiting.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # required on another platform
        if name in found:
            continue
        found.add(name)
        plain = [line for line in distribution.requires or [] if "extra ==" not in line]
        waiting += [re.match(r"[\w.-]+", line)[0] for line in plain]
    return found


@pytest.fixture(scope="session")
def bare(tmp_path_factory) -> Path:
    """A folder from which torch, numpy and what they require can be imported, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    for name in required("torch") | required("numpy"):
        distribution = importlib.metadata.distribution(name)
        for top in {Path(file).parts[0] for file in distribution.files or [] if ".." not in Path(file).parts}:
            place = Path(str(distribution.locate_file(top)))
            if place.exists() and not (folder / top).exists():
                (folder / top).symlink_to(place)
    return folder


def run(code: str, folder: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run code with these folders and the standard library on its path; without any, as usual."""
    alone = {"PYTHONPATH": ":".join(map(str, path))} if path else {}
    return subprocess.run(
        [sys.executable, *(["-S"] if path else []), "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", **alone},
    )


def ten_lines() -> str:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    return code[1]


def test_the_ten_lines_are_ten():
    lines = [line for line in ten_lines().splitlines() if line.strip() and not line.startswith("import")]
    assert len(lines) <= 10


def test_the_ten_lines_run_with_torch_and_numpy_alone(tmp_path, bare):
    kept, saving = ten_lines().rsplit("\n", 2)[0], ten_lines().splitlines()[-1]
    assert "save_pretrained" in saving
    for absent in ("safetensors", "accelerate", "matplotlib", "scipy", "rich", "PIL", "yaml", "jsonargparse"):
        assert not (bare / absent).exists()
    checks = """
radius = samples.norm(dim=1)
assert abs(float(radius.mean()) - 1) < 0.05, radius.mean()
assert float(radius.std()) < 0.2, radius.std()
assert float((fast - samples).norm(dim=1).mean()) < 0.2
assert float(density.mean()) > float(flow.log_prob(torch.zeros(1, 2))) + 1, density
assert torch.allclose(flow.sample(5, x0=start, solver=advect.solvers.DormandPrince()), ring[:5], atol=1e-2)
"""
    done = run(kept + checks, tmp_path, bare, ROOT / "src")
    assert done.returncode == 0, done.stderr
    without = run(ten_lines().replace("steps=1000", "steps=1"), tmp_path, bare, ROOT / "src")
    assert "pip install 'advect[io]'" in without.stderr
    assert run(ten_lines().replace("steps=1000", "steps=1"), tmp_path).returncode == 0
    assert (tmp_path / "runs" / "ring" / "flow.json").exists()


def test_the_sentences_on_standing_alone_are_true():
    import torch

    from advect.objectives import FlowMatching
    from advect.solvers import Heun
    from advect.times import TimeGrid

    x0 = torch.ones(3, 2)
    torch.testing.assert_close(Heun()(lambda x, t: -x, x0, TimeGrid(20)), x0 * torch.e**-1, atol=1e-3, rtol=0)
    assert FlowMatching()(lambda x, t: 0 * x, torch.randn(8, 2)).mean() > 0


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("advect ")]


@pytest.mark.parametrize("line", commands())
def test_the_commands_are_accepted(line, tmp_path, monkeypatch, capsys):
    """Recipes are resolved and checked; commands on a run that is not there say so, having understood their options."""
    pytest.importorskip("jsonargparse")
    image = pytest.importorskip("PIL.Image")
    from advect.cli import main

    monkeypatch.chdir(tmp_path)
    for i in range(20):
        (tmp_path / "photos").mkdir(exist_ok=True)
        image.new("RGB", (70, 70), (i, 9 * i, 200)).save(tmp_path / "photos" / f"{i}.png")
    arguments = shlex.split(line)[1:]
    if arguments[0] == "train":
        assert main([*arguments, "--dry-run"]) == 0
    else:
        assert main(arguments) == 2
        missing = "hole.png" if arguments[0] == "restore" else "there is no flow at runs/digits"
        assert missing in capsys.readouterr().err


def test_the_error_that_is_shown_is_the_error(capsys):
    pytest.importorskip("jsonargparse")
    from advect.cli import main

    shown = re.search(r"```text\n\$ advect (.*?)\n(.*?)\n```", README, re.DOTALL)
    assert shown is not None
    assert main(shlex.split(shown[1])) == 2
    assert capsys.readouterr().err == shown[2] + "\n"
