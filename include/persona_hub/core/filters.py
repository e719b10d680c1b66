"""Rules that a page must pass before a model reads it: each is text → Rejection or None, in a fixed order.

The texts come normalized (`core.text.normalize_whitespace`). Rules err on the side of keeping: what a page says of
its readers is for the model to find, and a list of parts tells as much as an essay.
"""

from __future__ import annotations

import re

from persona_hub.core.text import weigh_chars
from persona_hub.core.verdict import Rejection

MIN_PROSE_LINE = 40
"""Weight of a line below which it is taken for a label or a button, however it ends."""

MIN_PROSE_SHARE = 0.05
"""Share of a page's weight in lines with sentences; chosen on 318 pages of CC-MAIN-2020-50, see the test."""

# A sentence ends after a word of two characters or more (so neither "1." nor "J." counts), with what closes quotes
# and brackets; or at the full stops of Hindi, Chinese and Japanese. Thai, Lao, Burmese and Khmer have none to rely
# on: a long run without a space is a clause there. Not \w: vowel signs of Indian scripts are marks, no letters.
_SENTENCE = re.compile(
    r"""[^\s\d.!?…]{2}[.!?…؟۔։።]+["'”’“‘»«›‹)\]]*(?=\s|$)|[।॥。！？｡]|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]{25}"""
)
_CUTS = re.compile(r"""[.!?…؟۔।॥։።]["'”’“‘»«›‹)\]]*(?=\s)|[。！？｡][」』）”’]*|\n""")


def check_page(text: str, min_chars: int) -> Rejection | None:
    """The first rule that refuses the page, in the order `empty`, `too_short`, `navigation`."""
    return check_empty(text) or check_length(text, min_chars) or check_navigation(text)


def check_empty(text: str) -> Rejection | None:
    return None if text.strip() else Rejection("empty")


def check_length(text: str, min_chars: int) -> Rejection | None:
    """`too_short`: lighter than `min_chars`; see `weigh_chars`."""
    weight = weigh_chars(text)
    return Rejection("too_short", f"{weight} of {min_chars} characters") if weight < min_chars else None


def check_navigation(text: str) -> Rejection | None:
    """`navigation`: next to nothing but menus, labels and link lists.

    In the manner of C4, which keeps only lines that end in terminal punctuation (Raffel et al. 2020, arXiv 1910.10683,
    section 2.2). Here a line counts whole when a sentence ends anywhere in it, the marks of other scripts included,
    and the page is judged, not the line: it goes when such lines make up less than `MIN_PROSE_SHARE` of its weight.
    """
    total = prose = 0
    for line in text.split("\n"):
        weight = weigh_chars(line)
        total += weight
        if weight >= MIN_PROSE_LINE and _SENTENCE.search(line):
            prose += weight
    if total and prose / total < MIN_PROSE_SHARE:
        return Rejection("navigation", f"{prose / total:.1%} of the text is in sentences")
    return None


def cut_text(text: str, max_chars: int) -> tuple[str, bool]:
    """Cuts after `max_chars` characters at most, at the end of a sentence or line in the last third, else between words.

    Returns:
        The text, and whether anything was cut.
    """
    if len(text) <= max_chars:
        return text, False
    head = text[:max_chars]
    earliest = max_chars * 2 // 3
    ends = [match.end() for match in _CUTS.finditer(text, earliest, max_chars + 1) if match.end() <= max_chars]
    end = ends[-1] if ends else head.rfind(" ", earliest)
    return (head[:end] if end > 0 else head).rstrip(), True
