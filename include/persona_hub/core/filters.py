"""Rules over one page's text and its counts: navigation, boilerplate, symbols; and where a long text is cut.

Rules err on the side of keeping: what a page says of its readers is for the model to find, and a list of parts tells
as much as an essay. So where a published rule drops what is worth reading, its unit or its line is moved, and the
docstring says so. `core.page_judge` calls them in their order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from persona_hub.core.page_stats import Marks, PageStats
from persona_hub.core.verdict import Rejection
from persona_hub.settings import CrawlSettings, PageRuleSettings

MIN_PROSE_LINE = 40
"""Weight of a line below which it is taken for a label or a button, however it ends."""

# A sentence ends after a word of two characters or more (so neither "1." nor "J." counts), with what closes quotes
# and brackets; or at the full stops of Hindi, Chinese and Japanese. Thai, Lao, Burmese and Khmer have none to rely
# on: a long run without a space is a clause there. Not \w: vowel signs of Indian scripts are marks, no letters.
_SENTENCE = re.compile(
    r"""[^\s\d.!?…]{2}[.!?…؟۔։።]+["'”’“‘»«›‹)\]]*(?=\s|$)|[।॥。！？｡]|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]{25}"""
)
_CUTS = re.compile(r"""[.!?…؟۔।॥։።]["'”’“‘»«›‹)\]]*(?=\s)|[。！？｡][」』）”’]*|\n""")
_NOTICES = (
    *("javascript", "terms of use", "privacy policy"),
    *("cookie policy", "uses cookies", "use of cookies", "use cookies"),
)
_STOP_WORD = re.compile(r"\b(?:the|be|to|of|and|that|have|with)\b", re.IGNORECASE)
_ELLIPSIS = re.compile(r"\.{3,}|…+")


def check_navigation(text: str, stats: PageStats, page: int, min_share: float) -> Rejection | None:
    """`navigation`: next to nothing but menus, labels and link lists.

    In the manner of C4, which keeps only lines that end in terminal punctuation (Raffel et al. 2020, arXiv 1910.10683,
    section 2.2). Here a line counts whole when a sentence ends anywhere in it, the marks of other scripts included,
    and the page is judged, not the line: it goes when such lines make up less than `min_share` of its weight.
    """
    lines = slice(stats.line_first[page], stats.line_first[page + 1])
    weights = stats.line_weights[lines]
    total, prose, origin = int(weights.sum()), 0, int(stats.starts[page])
    places = (weights >= MIN_PROSE_LINE).nonzero()[0]
    starts, ends = stats.line_starts[lines][places] - origin, stats.line_ends[lines][places] - origin
    for start, end, weight in zip(starts.tolist(), ends.tolist(), weights[places].tolist(), strict=True):
        if _SENTENCE.search(text[start:end]):
            prose += weight
            if prose / total >= min_share:  # most pages show it in their first paragraphs
                return None
    if prose / total < min_share:
        return Rejection("navigation", f"{prose / total:.1%} of the text is in sentences")
    return None


def check_boilerplate(text: str, stats: PageStats, page: int, settings: CrawlSettings) -> Rejection | None:
    """`boilerplate`: filler, code and notices instead of a text (C4: arXiv 1910.10683, section 2.2, and its code).

    C4 drops pages with `lorem ipsum`, or with one curly bracket: here with a bracket for every tenth word. C4 takes
    away lines that name JavaScript, cookies or terms, and drops what is then too short: so here, but the text of a
    page that is kept stays whole. FineWeb's rules over lines (arXiv 2406.17557, section 3.6: 12 % with a full stop,
    67 % shorter than 30 characters) are not used: they fit extracted text, of WET they drop every second page.
    """
    low = text.lower()
    if settings.rules.lorem_ipsum and "lorem ipsum" in low:
        return Rejection("boilerplate", "lorem ipsum")
    words = int(stats.words[page])
    if (brackets := text.count("{")) > settings.rules.max_curly_ratio * words:
        return Rejection("boilerplate", f"{brackets} curly brackets on {words} words")
    weight = int(stats.weights[page])
    lines: set[int] = set()
    for notice in _NOTICES:
        place = low.find(notice)
        while place >= 0:
            lines.add(low.count("\n", 0, place))
            place = low.find(notice, place + 1)
    if lines:
        weight -= int(stats.line_weights[[int(stats.line_first[page]) + line for line in lines]].sum())
        if weight < settings.min_chars:
            return Rejection("boilerplate", f"{weight} characters beside notices of scripts, cookies and terms")
    return None


def check_symbols(
    texts: Sequence[str], stats: PageStats, judged: Marks, worded: Marks, english: Marks, rules: PageRuleSettings
) -> dict[int, Rejection]:
    """`symbols`: Gopher's rules of quality (Rae et al. 2021, arXiv 2112.11446, section A.1.1) but the number of words.

    A word is a run between spaces with a letter or digit in it, so bullets and bars are none. A run of dots is one
    ellipsis: tables of contents are full of them. A Hangul syllable counts as two of the letters that it is made of.

    Args:
        texts: n texts, and their stats.
        judged: n marks of the pages that are still in question.
        worded: n marks of those written with spaces between words; the others are judged by their lines only.
        english: n marks of those that are asked for stop words.
        rules: the thresholds.

    Returns:
        The pages that are refused, and why.
    """
    lines, words = stats.lines, stats.words
    bullets, ellipses = stats.bullets / lines, stats.ellipsis_lines / lines
    letters = stats.alphabetic / np.maximum(words, 1)
    lengths = (stats.word_chars + stats.hangul) / np.maximum(words, 1)
    unlettered = worded & (letters < rules.min_alphabetic_words)
    misshaped = worded & ((lengths < rules.min_word_length) | (lengths > rules.max_word_length))
    refused: dict[int, Rejection] = {}
    for page in np.flatnonzero(judged).tolist():
        text = texts[page]
        signs = _count_symbols(text, rules.max_symbol_ratio * int(words[page])) if worded[page] else ""
        if bullets[page] > rules.max_bullet_lines:
            detail = f"{bullets[page]:.1%} of the lines begin with a bullet"
        elif ellipses[page] > rules.max_ellipsis_lines:
            detail = f"{ellipses[page]:.1%} of the lines end in an ellipsis"
        elif signs:
            detail = f"{signs} on {words[page]} words"
        elif unlettered[page]:
            detail = f"{stats.alphabetic[page]} of {words[page]} words have a letter"
        elif misshaped[page]:
            detail = f"words of {lengths[page]:.1f} characters"
        elif english[page] and worded[page] and not _has_stop_words(text, rules.min_stop_words):
            detail = f"fewer than {rules.min_stop_words} of the stop words of English"
        else:
            continue
        refused[page] = Rejection("symbols", detail)
    return refused


def _count_symbols(text: str, most: float) -> str:
    """Which of Gopher's two symbols is too frequent, in words; nothing if none is."""
    if (hashes := text.count("#")) > most:
        return f"{hashes} hash signs"
    if text.count("...") + text.count("…") > most and (runs := sum(1 for _ in _ELLIPSIS.finditer(text))) > most:
        return f"{runs} ellipses"
    return ""


def _has_stop_words(text: str, least: int) -> bool:
    found: set[str] = set()
    words = _STOP_WORD.finditer(text)
    while len(found) < least:
        word = next(words, None)
        if word is None:
            return False
        found.add(word.group().lower())
    return True


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
