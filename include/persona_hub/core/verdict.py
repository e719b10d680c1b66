"""What a rule says of a row that it refuses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refusal: the rule's id (counted in the funnel) and what was seen (kept in `silver.removals`)."""

    rule: str
    detail: str = ""
