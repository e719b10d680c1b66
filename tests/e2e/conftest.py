"""One installation of its own for all end-to-end tests: Airflow, the mirror and the embedded model, in .hub/e2e."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from local.airflow_api import AirflowApi
from local.home import Home
from local.mirror import PAGES, build_mirror
from local.services import Services, connect, down, up
from persona_hub.crawl.growth import add_snapshot
from persona_hub.crawl.source import find_snapshots
from persona_hub.settings import Settings, load_settings
from persona_hub.tables.model import Table

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLE = "common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz"
LIMITS = {
    "PERSONA_HUB_CRAWL__PAGES_PER_SLICE": "12",
    "PERSONA_HUB_SYNTHESIS__PERSONAS_PER_TYPE": "1",
    "PERSONA_HUB_RETRY_DELAY_S": "2",
}


@dataclass(frozen=True)
class Installation:
    """What a test needs to drive it and to look at what it made."""

    home: Home
    services: Services
    settings: Settings
    api: AirflowApi
    key: str
    files: Path  # folder of the crawl files
    is_real: bool

    def read(self, table: Table, version: int | None = None) -> list[dict[str, Any]]:
        stored = DeltaTable(table.path(self.settings.lake), version=version)
        rows: list[dict[str, Any]] = stored.to_pyarrow_table().to_pylist(maps_as_pydicts="strict")
        return rows


@pytest.fixture(scope="session")
def hub(data_folder: Path) -> Iterator[Installation]:
    home = Home(CHECKOUT / ".hub" / "e2e")
    down(home, say=lambda *_: None)
    shutil.rmtree(home.path, ignore_errors=True)
    real = data_folder / "crawl" / SAMPLE
    if os.environ.get("CI") and not real.is_file():
        pytest.fail(f"no test data at {data_folder}: set HUB_TEST_DATA to their folder")
    files = home.path / "crawl"
    if real.is_file():
        files.mkdir(parents=True)
        shutil.copy(real, files)
    else:
        build_mirror(PAGES, files)
    try:
        services = up(home, LIMITS)
        settings = load_settings(services.settings)
        listing = find_snapshots(str(files))[0]
        snapshot = add_snapshot(settings.calendar, listing, files_per_slice=2, first_seen=datetime.now(UTC))
        key = str(snapshot.slice(1).key)
        yield Installation(home, services, settings, connect(services), key, files, real.is_file())
    finally:
        down(home, say=lambda *_: None)
