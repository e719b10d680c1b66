"""What the demo sets and which slice it takes; running it is the end-to-end tests' matter."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.demo import choose_limits, find_newest, register_snapshot
from local.home import Home
from local.mirror import PAGES, build_mirror
from persona_hub.crawl.growth import add_snapshot
from persona_hub.crawl.listing import SnapshotListing
from persona_hub.crawl.refresh import refresh_calendar
from persona_hub.settings import Settings, load_settings

SAMPLE = {"PERSONA_HUB_CRAWL__FILES_PER_SLICE": "2", "PERSONA_HUB_SYNTHESIS__PERSONAS_PER_TYPE": "2"}
OWN = {"PERSONA_HUB_CRAWL__PAGES_PER_SLICE": "60", "PERSONA_HUB_SYNTHESIS__PERSONAS_PER_TYPE": "2"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    build_mirror(PAGES, tmp_path / "mirror")
    ours = {"PERSONA_HUB_HOME": str(tmp_path / "hub"), "PERSONA_HUB_CRAWL__SOURCE": f"file://{tmp_path / 'mirror'}/"}
    return load_settings(ours | SAMPLE)


def test_limits_keep_it_short_and_the_user_s_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    assert choose_limits(home, None) == SAMPLE
    assert choose_limits(home, "/data/wet") == OWN
    monkeypatch.setenv("PERSONA_HUB_CRAWL__FILES_PER_SLICE", "1")
    assert choose_limits(home, None) == {"PERSONA_HUB_SYNTHESIS__PERSONAS_PER_TYPE": "2"}


def test_slice_is_of_the_newest_snapshot_that_the_source_had(settings: Settings) -> None:
    """A snapshot of other files, registered before and newer, is not what was asked for."""
    now = datetime.now(UTC)
    add_snapshot(settings.lake, settings.calendar, SnapshotListing("mine", now, ("a.wet.gz",), "/elsewhere"), 1, now)
    refresh_calendar(settings)
    assert str(find_newest(settings).slice(1).key) == "CC-MAIN-2026-45/00001"


def test_own_files_are_registered_with_the_set_number_in_a_slice(settings: Settings, tmp_path: Path) -> None:
    snapshot = register_snapshot(settings, str(tmp_path / "mirror"))
    assert (snapshot.id, snapshot.files, snapshot.slices) == ("CC-MAIN-2026-45", 2, 1)
