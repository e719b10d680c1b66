"""For tests of model calls; the server is in tests/fixtures/model_server.py."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for what a server asks, not for jitter."""
    monkeypatch.setattr("persona_hub.llm.client.BACKOFF_S", 0.001)
