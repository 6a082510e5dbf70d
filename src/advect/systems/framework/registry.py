"""The pages that exist: one module or package per slug in advect/systems, each with a constant SYSTEM."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from pathlib import Path

from advect.errors import InputError
from advect.systems.framework.base import System


def slugs() -> list[str]:
    """The slugs of all systems, in alphabetical order."""
    modules = pkgutil.iter_modules([str(Path(__file__).parents[1])])
    return sorted(module.name.replace("_", "-") for module in modules if module.name != "framework")


def get(slug: str) -> System:
    """The page of one system.

    Raises:
        InputError: If there is none of that slug; the sentence names near misses.
    """
    known = slugs()
    if slug not in known:
        near = difflib.get_close_matches(slug, known, n=3, cutoff=0.4)
        meant = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
        raise InputError(f"no system is called {slug!r}: {meant}")
    return importlib.import_module(f"advect.systems.{slug.replace('-', '_')}").SYSTEM


def all_systems() -> list[System]:
    """The pages of all systems."""
    return [get(slug) for slug in slugs()]
