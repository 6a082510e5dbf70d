"""Every Python example in the documentation runs; blocks of one page share their names, as a reader would run them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "CONTRIBUTING.md", ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks_of(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


@pytest.mark.parametrize("page", [p for p in PAGES if blocks_of(p)], ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__example__"}
    for number, block in enumerate(blocks_of(page), start=1):
        exec(compile(block, f"{page.name}#block{number}", "exec"), names)


def test_pages_speak_of_advect_alone() -> None:
    """No machine path or unfinished marker reaches a reader."""
    for page in PAGES:
        text = page.read_text()
        assert not re.search(r"/(home|root|tmp|mnt)/|TODO|FIXME|TBD", text), f"{page}: machine path or marker"
