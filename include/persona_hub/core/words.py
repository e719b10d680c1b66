"""Word sets: what the first dedup step compares.

A text's words are the runs of letters, digits and underscores of its NFKC-normalized, case-folded form, with the
marks that stand on them (the vowel signs of Indian scripts, for one). Scripts
without spaces (Han, kana, Thai, Lao, Khmer, Myanmar) would make a whole sentence one word; there the words are
the character bigrams of each run (a run of one character is itself).
"""

from __future__ import annotations

import re
import unicodedata

from persona_hub.core.text import SPACELESS

_SPACELESS_RUN = re.compile(rf"[{SPACELESS}]+")
# Python's \w leaves marks out, which would cut "हिन्दी" into its three consonants.
MARKS = "".join(
    mark
    for mark in map(chr, (*range(0x300, 0x1E00), *range(0xA800, 0xAC00)))
    if unicodedata.category(mark).startswith("M") and not _SPACELESS_RUN.match(mark)
)
"""Signs that stand on letters and belong to their words."""
_LETTERS = rf"[^\W{SPACELESS}]"
_TOKEN = re.compile(rf"[{SPACELESS}]+|{_LETTERS}+(?:[{MARKS}]+{_LETTERS}*)*")


def split_words(text: str) -> list[str]:
    """The words of a text in their order, as the module's docstring defines them."""
    words: list[str] = []
    for token in _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold()):
        if len(token) > 2 and _SPACELESS_RUN.fullmatch(token):
            words.extend(token[i : i + 2] for i in range(len(token) - 1))
        else:
            words.append(token)
    return words


def word_set(text: str) -> frozenset[str]:
    """The distinct words of a text; empty where it has none (punctuation, emoji)."""
    return frozenset(split_words(text))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """|a ∩ b| / |a ∪ b|; two empty sets have nothing in common (0), so they never remove each other."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if shared else 0.0
