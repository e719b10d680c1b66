"""Hostile text inside a prompt: fenced, and without what a model could take for the end of the fence."""

from __future__ import annotations

import re

_INVISIBLE = "[\\s\u00ad\u200b-\u200f\u2060-\u2064\ufeff]*"
_MARKER = re.compile("<" + _INVISIBLE + "/?" + _INVISIBLE + _INVISIBLE.join("text") + "[^<>]{0,40}>", re.IGNORECASE)
# Servers tokenize a chat with its control tokens, so these in a page would end our turn and begin another.
_CONTROL = re.compile(
    r"<\||\|>|<｜|｜>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<[be]os>|</?(?:im|turn)_(?:start|end)>",
    re.IGNORECASE,
)


def defuse(text: str) -> str:
    """Breaks the control tokens of the known chat templates apart with a space, and drops NUL."""
    text = text.replace("\0", " ")
    return _CONTROL.sub(lambda found: " ".join(found.group()), text)


def fence(text: str) -> str:
    """Puts text between `<text>` and `</text>`, after removing everything inside that looks like these markers.

    Removal may join two halves to a new marker, so it goes on until nothing is found.
    """
    found = 1
    while found:
        text, found = _MARKER.subn(" ", text)
    return f"<text>\n{text.strip()}\n</text>"
