"""Leases: mutual exclusion between drivers that share nothing but the lake (docs/adr/0003).

The log stores of local files and plain S3 do not lock across drivers, so a commit to a shared table takes the
table's lease first. A lease is a folder of numbered files. To acquire: find the highest number n; when n is
released, expired or its owner is dead, create n+1 exclusively. Only one creator wins. Numbers are never used
again, and a winner looks once more for a higher number, so a slow contender cannot slip in behind.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from persona_hub.core.background import repeat
from persona_hub.core.whole_file import write_whole
from persona_hub.errors import LeaseHeld, LeaseLost

log = logging.getLogger(__name__)


class Lease:
    """One acquired lease; `verify` before what it guards."""

    def __init__(self, folder: Path, number: int, owner: str, ttl_s: float) -> None:
        self.folder, self.number, self.owner, self.ttl_s = folder, number, owner, ttl_s

    def verify(self) -> None:
        """Raises LeaseLost when somebody has taken over, or our own time ran out."""
        held = _read(self.folder / str(self.number))
        if _highest(self.folder) != self.number or held is None or held["expires"] < time.time():
            raise LeaseLost(
                f"Lease {self.folder.name} (number {self.number}, {self.owner}) was not renewed in time",
                wanted=f"a renewal every {self.ttl_s / 3:.0f} s",
                cure="nothing was committed after that; run the task again",
            )

    def renew(self) -> None:
        _write(self.folder / str(self.number), self.owner, time.time() + self.ttl_s)

    def release(self) -> None:
        _write(self.folder / str(self.number), self.owner, expires=0.0)


@contextmanager
def hold_lease(lake: str, name: str, *, wait_s: float = 600.0, ttl_s: float = 30.0) -> Iterator[Lease]:
    """Holds the lease `name` of a lake for the block.

    Args:
        lake: root folder of the lake.
        name: what is guarded, as in `gold.personas`; slashes are fine.
        wait_s: seconds to wait for the holder before giving up.
        ttl_s: seconds after which a silent holder is taken for dead; renewed every third of it.

    Raises:
        LeaseHeld: still held after `wait_s`; says by whom.
    """
    folder = Path(lake) / "_leases" / name.replace("/", "__")
    folder.mkdir(parents=True, exist_ok=True)
    owner = f"{socket.gethostname()}:{os.getpid()}:{read_start_time(os.getpid())}:{threading.get_ident()}"
    deadline, told = time.monotonic() + wait_s, False
    while (number := _try_acquire(folder, owner, ttl_s)) is None:
        holder = _read(folder / str(_highest(folder)))
        if time.monotonic() > deadline:
            raise LeaseHeld(
                f"Lease {name} is held by {holder['owner'] if holder else 'an unknown process'}",
                wanted=f"it to be free within {wait_s:.0f} s",
                cure="wait for that run, or end it; a dead holder's lease expires by itself",
            )
        if not told and holder:
            log.info("waiting for lease %s, held by %s", name, holder["owner"])
            told = True
        time.sleep(0.2)
    lease = Lease(folder, number, owner, ttl_s)
    try:
        with repeat(lease.renew, ttl_s / 3, f"lease {folder.name}"):
            yield lease
    finally:
        lease.release()


def _try_acquire(folder: Path, owner: str, ttl_s: float) -> int | None:
    highest = _highest(folder)
    if highest and not _is_free(_read(folder / str(highest)), folder / str(highest), ttl_s):
        return None
    mine = folder / str(highest + 1)
    scratch = folder / f".{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}"
    _write(scratch, owner, time.time() + ttl_s)
    try:
        os.link(scratch, mine)  # exclusive like O_EXCL, and never seen half-written
    except FileExistsError:
        return None
    finally:
        scratch.unlink()
    if _highest(folder) != highest + 1:  # we were asleep: the numbers below the top have been cleared away
        mine.unlink()
        return None
    for old in folder.iterdir():
        if old.name.isdigit() and int(old.name) < highest:
            old.unlink(missing_ok=True)
    return highest + 1


def _is_free(held: dict[str, object] | None, file: Path, ttl_s: float) -> bool:
    if held is None:  # unreadable: let its age decide
        try:
            return time.time() - file.stat().st_mtime > ttl_s
        except FileNotFoundError:
            return False
    if float(str(held["expires"])) < time.time():
        return True
    host, pid, started, _ = str(held["owner"]).rsplit(":", 3)
    return host == socket.gethostname() and read_start_time(int(pid)) != started


def _highest(folder: Path) -> int:
    return max((int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()), default=0)


def _read(file: Path) -> dict | None:  # type: ignore[type-arg]
    try:
        return dict(json.loads(file.read_text()))
    except (FileNotFoundError, ValueError):
        return None


def _write(file: Path, owner: str, expires: float) -> None:
    write_whole(file, json.dumps({"owner": owner, "expires": expires}))


def read_start_time(pid: int) -> str:
    """A process's start in clock ticks since boot: tells a living owner from a later process with its number."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    # A killed process that nobody waits for, as in a container without an init, stays listed. Its first thread may be
    # dead before the others, which still hold what it had open.
    return "gone" if state in "ZX" and int(fields[16]) <= 1 else fields[18]
