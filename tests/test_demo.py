"""What `make demo` promises: 97 % of samples get their class, an energy distance under .02, few steps after reflow."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("jsonargparse")
pytest.importorskip("matplotlib")


@pytest.mark.slow
def test_the_demo_keeps_its_promises(tmp_path):
    from advect.demo import run

    began = time.process_time()
    series = run(tmp_path)
    spent = time.process_time() - began

    best = series["before reflow"][-1]
    assert best.calls == 32
    assert best.estimates["class accuracy[digits-cnn]"].value >= 0.97
    assert best.estimates["energy distance"].value < 0.02
    one_before, one_after = series["before reflow"][0], series["after reflow"][0]
    assert one_before.calls == one_after.calls == 1
    for name in ("energy distance", "FD[digits-cnn]"):
        assert one_after.estimates[name].value < one_before.estimates[name].value / 2
    jump = series["flow map"][0]
    assert jump.calls == 1
    for name in ("energy distance", "FD[digits-cnn]"):
        assert jump.estimates[name].value < one_before.estimates[name].value / 1.5
    assert spent < 2 * 300  # five minutes of two cores

    page = (tmp_path / "report.html").read_text()
    for expected in (
        "Training",
        "Reflow",
        "One network call",
        "32 network calls",
        "FD[digits-cnn]",
        "copying",
        "Emoji",
        "resolved recipe",
    ):
        assert expected in page
