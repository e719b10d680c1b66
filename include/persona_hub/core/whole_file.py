"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_whole(file: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Replaces a file in one step: who reads it sees all of it, as it was before or as it is now.

    Args:
        file: in a folder that is there.
        content: a text is written in UTF-8.
        durable: the content is on the disk before the file has its name, so a crash of the machine leaves no empty one.
    """
    scratch = file.with_name(f".{file.name}.{uuid.uuid4().hex}.part")
    try:
        with scratch.open("wb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        scratch.replace(file)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
