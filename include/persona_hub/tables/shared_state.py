"""A small state on the lake that several processes change, one at a time.

One file with two places. A change happens under an exclusive `flock`, which the kernel gives back when its holder dies,
and goes to the place that does not hold the newest state, with a number and a checksum: a process killed at any line,
even in the middle of that write, leaves the state before or after. (Not a rename: over an existing file ext4 makes each
one wait for the disk, 2 ms instead of 0.1.)

It needs a file system whose locks hold between all who share it (one machine, or NFS 4; not an object store). Nothing
is synced: a state is lost only with the machine, and each kind of state says how it comes back.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from persona_hub.errors import LakeError
from persona_hub.tables.lease import read_start_time

log = logging.getLogger(__name__)
State = TypeVar("State")

PLACES = (0, 1 << 20)
AT_ONCE = 1 << 14
# Between two looks at who is dead, which take longer than all the rest.
LOOK_S = 0.25
LOCK_PATIENCE_S = 30.0
LOCK_RETRY_S = 0.0005


class SharedState(Generic[State]):
    """One such file.

    Args:
        file: where it is; its folder is made.
        kind: dataclass of its content.
        begin: makes the state where there is none yet; its argument says that there was one that cannot be read, so
            that nothing is known any more.
    """

    def __init__(self, file: Path, kind: type[State], begin: Callable[[bool], State]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file, self._json, self._begin = file, TypeAdapter(kind), begin

    @contextmanager
    def change(self) -> Iterator[State]:
        """The state, to be changed in place; it is written when the block ends without an error.

        Raises:
            LakeError: somebody keeps the lock, or the file cannot be written.
        """
        try:
            file = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                self._lock(file)
                number, state = self._read(file)
                yield state
                content = self._json.dump_json(state)
                whole = b"%d %d %d\n%s" % (number + 1, len(content), zlib.crc32(content), content)
                if len(whole) > PLACES[1]:
                    raise OSError(errno.EFBIG, f"its content has grown to {len(whole)} bytes")
                if os.pwrite(file, whole, PLACES[(number + 1) % 2]) < len(whole):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(file)
        except OSError as error:
            raise LakeError(
                f"{self.file} cannot be changed ({error.strerror})",
                wanted="a folder of the lake that can be written and locked",
                cure="see to the disk and its permissions, then run the task again",
            ) from None

    def _lock(self, file: int) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LakeError(
                        f"{self.file} has been locked for {LOCK_PATIENCE_S:.0f} s",
                        wanted="a lock that is held for a moment",
                        cure="look for a stopped process that holds it (fuser), and end it",
                    ) from None
                time.sleep(LOCK_RETRY_S)

    def _read(self, file: int) -> tuple[int, State]:
        """The newest whole state and its number."""
        number, content = max((_read_place(file, place) for place in PLACES), key=lambda found: found[0])
        if number:
            try:
                return number, self._json.validate_json(content)
            except ValidationError as error:
                fault = error.errors(include_url=False)[0]["msg"]
        elif os.fstat(file).st_size:
            fault = "no whole state"
        else:
            return 0, self._begin(False)
        kept = self.file.with_suffix(".broken")
        kept.write_bytes(self.file.read_bytes())
        log.error("%s is broken (%s) and begins anew; what it held is in %s", self.file, fault, kept.name)
        return number, self._begin(True)


def _read_place(file: int, place: int) -> tuple[int, bytes]:
    found = os.pread(file, AT_ONCE, place)
    header, _, content = found.partition(b"\n")
    try:
        number, length, checksum = map(int, header.split(b" "))
    except ValueError:
        return 0, b""
    if len(content) < length:
        content = os.pread(file, length, place + len(header) + 1)
    content = content[:length]
    return (number, content) if zlib.crc32(content) == checksum else (0, b"")


def name_holder() -> str:
    """Says who holds something: host, process with its start, and which of the process's own."""
    return f"{socket.gethostname()}:{os.getpid()}:{read_start_time(os.getpid())}:{uuid.uuid4().hex[:8]}"


def is_gone(holder: str, expires: float, now: float) -> bool:
    """Whether a holder is dead: not there any more on this host, or silent past its time."""
    host, pid, started, _ = holder.rsplit(":", 3)
    return expires < now or (host == socket.gethostname() and read_start_time(int(pid)) != started)
