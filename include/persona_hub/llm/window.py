"""How many calls may be at the endpoint at once: found out, not set (additive increase, multiplicative decrease).

Times are seconds of any clock that only grows; whoever owns the window passes them in.
"""

from __future__ import annotations

START = 0.25
CUT = 0.75


class Window:
    """Room for calls of one process.

    It begins at a quarter of its most and grows by one with each answer until the endpoint first refuses one, from then
    on by one with each whole window of answers. A refusal cuts it by a quarter, once per congestion: the refusals of
    calls that were sent before the last cut tell nothing new.

    Args:
        most: what it never passes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._start = max(1.0, most * START)
        self._size = self._start
        self._starting = True
        self._cut_at = float("-inf")
        self.taken = 0

    @property
    def size(self) -> int:
        return int(self._size)

    @property
    def has_room(self) -> bool:
        return self.taken < self.size

    @property
    def is_overfull(self) -> bool:
        """Whether a cut has left less room than is taken."""
        return self.taken > self.size

    @property
    def at_floor(self) -> bool:
        """Whether it cannot be cut any further."""
        return self.size == 1

    def take(self) -> None:
        self.taken += 1

    def leave(self) -> None:
        self.taken -= 1

    def grow(self) -> None:
        """An answer came. What is not used does not grow: it would be no measure of what the endpoint takes."""
        if self.taken >= 0.8 * self.size:
            self._size = min(self._most, self._size + (1 if self._starting else 1 / self._size))

    def cut(self, sent_at: float, now: float) -> None:
        """A call that was sent at `sent_at` was refused for want of room."""
        if sent_at > self._cut_at:
            self._size = max(1.0, self._size * CUT)
            self._starting, self._cut_at = False, now

    def restart(self) -> None:
        """The endpoint was sick: begins small again, so that it is not met by all at once."""
        self._size, self._starting = min(self._size, self._start), True
