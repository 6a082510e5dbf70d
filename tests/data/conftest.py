"""One example of every kind of data, made from generated files."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_examples import EXAMPLES

from advect.data import Data


@pytest.fixture(scope="session", autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory):
    """The Hugging Face library keeps its caches in the test's folder and asks no network."""
    cache = tmp_path_factory.mktemp("hf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(cache))
        patch.setenv("HF_DATASETS_CACHE", str(cache / "datasets"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        yield


@pytest.fixture(params=list(EXAMPLES))
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Data:
    """Every kind of data in turn."""
    return EXAMPLES[request.param](tmp_path)
