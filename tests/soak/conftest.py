"""An installation whose model is the loopback endpoint, which counts what it is asked, in .hub/soak."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint_process import EndpointProcess
from installation import Installation, install, name_endpoint

LIMITS = {
    "PERSONA_HUB_CRAWL__PAGES_PER_SLICE": "60",
    "PERSONA_HUB_SYNTHESIS__PERSONAS_PER_TYPE": "1",
    "PERSONA_HUB_QUALITY__MIN_DISTINCT_SHARE": "0",  # the endpoint always gives the same persona
    "PERSONA_HUB_RETRY_DELAY_S": "2",
    "PERSONA_HUB_BATCH__STAGES": '["synthesize_samples"]',
    "PERSONA_HUB_BATCH__POLL_S": "1",
}


@pytest.fixture
def hub(data_folder: Path, endpoint: EndpointProcess) -> Iterator[Installation]:
    with install("soak", LIMITS, data_folder) as installation:
        name_endpoint(installation, endpoint.url)
        yield installation
