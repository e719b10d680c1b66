"""Something that is done again and again while a block runs: reports, looks, renewals."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeat(action: Callable[[], None], every_s: float, name: str) -> Iterator[None]:
    """Calls `action` in a thread of its own until the block ends; the last call has ended then, too.

    Args:
        action: one that raises is not called again, and the block goes on.
        every_s: seconds before the first call, and between the end of one and the next.
        name: of the thread.
    """
    ended = threading.Event()

    def act() -> None:
        while not ended.wait(every_s):
            action()

    thread = threading.Thread(target=act, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
