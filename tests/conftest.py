"""Every test starts from the same random state, whatever ran before it."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter):
    """Say how many combinations ran: see tests/composition."""
    totals: dict[str, list[int]] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            if name.startswith("combinations"):
                total = totals.setdefault(name, [0, 0])
                total[0], total[1] = total[0] + value[0], total[1] + value[1]
    for name, (runs, count) in totals.items():
        terminalreporter.write_line(
            f"{name}: {runs} of {count} run ({100 * runs / count:.0f} %), the others are refused"
        )
