"""For tests of model calls; the server is in tests/fixtures/model_server.py."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for what a server asks, not for jitter, and use the whole window from the first call."""
    monkeypatch.setattr("persona_hub.llm.attempts.BACKOFF_S", 0.001)
    monkeypatch.setattr("persona_hub.llm.breaker.PAUSE_S", 0.01)
    monkeypatch.setattr("persona_hub.llm.breaker.MAX_PAUSE_S", 0.02)
    monkeypatch.setattr("persona_hub.llm.window.START", 1.0)
