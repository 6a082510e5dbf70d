"""The quick version of every reproduction, from process to page."""

from __future__ import annotations

import json

import pytest

from advect import systems

KEYS = {
    "name", "metric", "better", "paper", "baseline", "ours", "ratio", "spread", "seeds", "holds", "scale", "seconds",
    "processor_seconds", "calls", "command", "machine", "versions",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("slug", systems.slugs())
def test_quick_run_measures_every_claim_and_is_marked(slug, tmp_path):
    lines = []
    result = systems.reproduce(slug, quick=True, out=tmp_path, monitor=lines.append)
    assert json.loads((tmp_path / "cpu.json").read_text()) == result
    assert result["quick"] is True
    assert {"slug", "title", "paper", "seats", "claims"} <= result.keys()
    assert [claim["name"] for claim in result["claims"]] == [claim.name for claim in systems.get(slug).claims]
    for claim in result["claims"]:
        assert claim.keys() >= KEYS
        assert claim["seeds"] == 1
        assert claim["spread"] is None
        assert "--quick" in claim["command"]
    assert all((tmp_path / name).stat().st_size > 5000 for name in result["plots"])
    page = (tmp_path / "cpu.html").read_text()
    assert "never to be quoted" in page
    assert 'src="http' not in page
    assert any(line.startswith("seed 0: done in") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("slug", systems.slugs())
def test_a_seed_gives_the_same_figures_again(slug):
    """Fails for weights or axes that are drawn from torch's global generator, which every process seeds anew."""
    first, second = (systems.reproduce(slug, quick=True) for _ in range(2))
    for one, two in zip(first["claims"], second["claims"], strict=True):
        if "processor time" not in one["metric"]:
            assert one["per_seed"] == two["per_seed"], one["name"]
