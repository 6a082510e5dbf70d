"""Tiny pipelines, made once for all tests of a file."""

from __future__ import annotations

import pytest
import tiny
from published import SIZES, STEPS

from advect.adapters import from_pipeline


@pytest.fixture(scope="module", params=SIZES)
def made(request, tmp_path_factory):
    pipe = getattr(tiny, request.param)(tmp_path_factory.mktemp(request.param))
    pipe.set_progress_bar_config(disable=True)
    return request.param, pipe, from_pipeline(pipe, *SIZES[request.param], steps=STEPS)


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    pipe = tiny.sd3(tmp_path_factory.mktemp("sd3"))
    pipe.set_progress_bar_config(disable=True)
    return pipe, from_pipeline(pipe, 32, 32, steps=STEPS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    at = tmp_path_factory.mktemp("pipeline")
    tiny.sd3(at / "texts").save_pretrained(at / "sd3")
    return at / "sd3"
