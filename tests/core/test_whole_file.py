"""Files that are replaced in one step."""

import os
from pathlib import Path

import pytest

from persona_hub.core.whole_file import write_whole


@pytest.mark.parametrize("durable", [False, True])
def test_replaces_the_file_and_leaves_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    synced: list[bytes] = []
    file = tmp_path / "a.json"
    sync = os.fsync

    def note(number: int) -> None:
        sync(number)
        synced.append(Path(f"/proc/self/fd/{number}").read_bytes())

    monkeypatch.setattr(os, "fsync", note)
    for content in ("ä", b"\xff"):
        write_whole(file, content, durable=durable)
        assert file.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert synced == (["ä".encode(), b"\xff"] if durable else [])
    assert os.listdir(tmp_path) == ["a.json"]


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    write_whole(file, "old")

    def fail(number: int) -> None:
        raise OSError("no room")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no room"):
        write_whole(file, "new", durable=True)
    assert (file.read_text(), os.listdir(tmp_path)) == ("old", ["a.json"])


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
