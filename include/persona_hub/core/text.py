"""Plain text: white space, and how much a text says in scripts that need fewer characters for it."""

from __future__ import annotations

import re
from collections.abc import Iterator

SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Scripts written without spaces between words, for a class of a regular expression: Thai, Lao, Burmese, Khmer, kana, Han."""

_UNSPACED = re.compile(f"[{SPACELESS}]")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff]")
UNSPACED_WEIGHT = 4


def normalize_whitespace(text: str) -> str:
    """One blank between words, one line break between lines; control and zero-width characters go."""
    # Every page comes through here, and most lines are in order: `isprintable` is false of all white space but the
    # blank and of all that goes, and with `in` it takes a tenth of the time of a regular expression.
    text = text.strip()
    flat = text.replace("\n", " ")
    if "  " not in flat and flat.isprintable():
        return text
    lines = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        in_order = "  " not in line and line.isprintable()
        if line := line.strip() if in_order else " ".join(_CONTROLS.sub("", line).split()):
            lines.append(line)
    return "\n".join(lines)


def weigh_chars(text: str) -> int:
    """Characters, those of scripts without spaces counted fourfold: a Han character says about what a short word does.

    So one limit fits all languages. White space counts as it stands; normalize before.
    """
    return len(text) + (UNSPACED_WEIGHT - 1) * count_unspaced(text)


def count_unspaced(text: str) -> int:
    """How many characters belong to scripts that are written without spaces between words."""
    return 0 if text.isascii() else sum(1 for _ in _UNSPACED.finditer(text))


def find_unspaced(text: str) -> Iterator[int]:
    """The places of those characters."""
    return (found.start() for found in _UNSPACED.finditer(text))
