"""Texts beyond ASCII, spelled out as their words with blanks between: `core.words` for many texts at once.

Normalization and case folding are Python's own, then all texts are joined by line breaks: a line break composes with
nothing and nothing becomes one, so texts may be parted and joined there. The words are found as `core.words` finds them, but in arrays of code points. A word
is a run of letters and marks from its first letter on; a run of a script without spaces is its bigrams.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from persona_hub.core.text import SPACELESS
from persona_hub.core.words import MARKS

_BLANK, _BREAK = 32, 10
_OTHER, _LETTER, _MARK, _UNSPACED = range(4)


def spell_words(texts: pa.Array) -> pa.Array:
    """(n,) strings whose words are those of the (n,) texts, in their order, and parted by ASCII white space.

    What is not ASCII in them belongs to words; upper-case letters are gone.
    """
    # Line by line: most lines are normalized already, which Python sees at a glance; a whole page seldom is.
    lines = ([unicodedata.normalize("NFKC", line) for line in text.split("\n")] for text in texts.to_pylist())
    codes = np.frombuffer("\n".join(map(" ".join, lines)).casefold().encode("utf-32-le"), np.uint32)
    kinds = _kinds()[codes]
    spelled = np.where(_find_words(kinds) | (codes == _BREAK), codes, _BLANK)
    if (kinds == _UNSPACED).any():
        spelled = _spell_bigrams(spelled, kinds == _UNSPACED)
    letters = spelled.astype("<u4").tobytes().decode("utf-32-le").encode()
    breaks = np.flatnonzero(np.frombuffer(letters, np.uint8) == _BREAK)
    offsets = np.concatenate([[0], breaks + 1, [len(letters)]]).astype(np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(letters))


def _find_words(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which code points belong to words: all but others, and marks that stand on no letter."""
    found = kinds != _OTHER
    marks = np.flatnonzero(kinds == _MARK)
    if len(marks):
        places = np.arange(len(kinds))
        places[marks] = 0
        base = np.maximum.accumulate(places)[marks]  # the nearest before it that is no mark; a first mark has none
        found[marks] = kinds[base] == _LETTER
    return found


def _spell_bigrams(codes: NDArray[np.uint32], unspaced: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Puts " ab bc cd " for each run abcd of unspaced code points; a run of one stays, between blanks."""
    before, after = np.append(False, unspaced[:-1]), np.append(unspaced[1:], False)
    last = unspaced & ~after & before
    grams = unspaced & ~last
    widths = np.where(grams, 3, 1)
    starts = np.cumsum(widths) - widths
    spelled = np.repeat(np.where(last, np.uint32(_BLANK), codes), widths)
    spelled[starts[grams]] = _BLANK
    spelled[starts[grams] + 2] = np.where(after, np.append(codes[1:], 0), _BLANK)[grams]
    return spelled


@cache
def _kinds() -> NDArray[np.uint8]:
    """(0x110000,) what each code point is to `core.words`, by the same classes of Python's `re`."""
    everything = "".join(map(chr, range(0x110000)))
    kinds = np.full(len(everything), _OTHER, np.uint8)
    for kind, letters in ((_MARK, f"[{MARKS}]"), (_LETTER, rf"[^\W{SPACELESS}]"), (_UNSPACED, f"[{SPACELESS}]")):
        for run in re.finditer(f"{letters}+", everything):
            kinds[run.start() : run.end()] = kind
    return kinds
