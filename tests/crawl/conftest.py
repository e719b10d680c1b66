"""For tests of fetching; the server is in tests/fixtures/crawl_server.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from crawl_server import CrawlServer, make_access, run_crawl_server

from persona_hub.crawl.access import Access


@pytest.fixture
def server() -> Iterator[CrawlServer]:
    with run_crawl_server() as server:
        yield server


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return make_access(tmp_path)
