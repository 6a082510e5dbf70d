"""The core needs torch and numpy, and importing it costs next to nothing over importing torch."""

import subprocess
import sys

ALLOWED = {"torch", "numpy", "advect"}


def loaded_by(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"import sys, torch, numpy; k = set(sys.modules)\n{code}\nprint(*set(sys.modules) - k)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return {name.partition(".")[0] for name in out}


def third_party(names: set[str]) -> set[str]:
    return {n for n in names if n not in sys.stdlib_module_names and not n.startswith("_") and n not in ALLOWED}


def test_import_advect_loads_no_third_party_package() -> None:
    assert third_party(loaded_by("import advect")) == set()


def test_every_public_name_of_the_core_loads_no_third_party_package() -> None:
    code = "import advect\nfor n in advect.__all__: getattr(advect, n)"
    assert third_party(loaded_by(code)) == set()
