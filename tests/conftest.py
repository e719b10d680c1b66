"""What all tests share: where the test data lie, and what was left out for want of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# In tests/fixtures, by pytest's own `pythonpath`; Spark is imported when its session is asked for, not before.
pytest_plugins = ["driver_process", "endpoint_process", "model_server", "plain_hub", "spark_session"]

CHECKOUT = Path(__file__).resolve().parents[1]
LEFT_OUT: list[str] = []


@pytest.fixture(scope="session")
def data_folder() -> Path:
    return Path(os.environ.get("HUB_TEST_DATA") or CHECKOUT.parent / "shared" / "data")


@pytest.fixture
def shared_data(data_folder: Path, request: pytest.FixtureRequest) -> Path:
    """Real crawl files, pages and personas. A stranger's clone has none; in CI they must be there."""
    if data_folder.is_dir():
        return data_folder
    if os.environ.get("CI"):
        pytest.fail(f"no test data at {data_folder}: set HUB_TEST_DATA to their folder")
    LEFT_OUT.append(request.node.nodeid)
    pytest.skip("needs the real test data")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LEFT_OUT:
        terminalreporter.section("left out")
        terminalreporter.line(f"{len(LEFT_OUT)} tests need real data, which this clone does not have (HUB_TEST_DATA):")
        for name in LEFT_OUT:
            terminalreporter.line(f"  {name}")
