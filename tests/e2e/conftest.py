"""One installation for all end-to-end tests: Airflow, the mirror and the embedded model, in .hub/e2e."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation, install

LIMITS = {
    "PERSONA_HUB_CRAWL__PAGES_PER_SLICE": "12",
    "PERSONA_HUB_SYNTHESIS__PERSONAS_PER_TYPE": "1",
    "PERSONA_HUB_RETRY_DELAY_S": "2",
}


@pytest.fixture(scope="session")
def hub(data_folder: Path) -> Iterator[Installation]:
    with install("e2e", LIMITS, data_folder) as installation:
        yield installation
