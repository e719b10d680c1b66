"""Words, as the first dedup step counts them."""

from __future__ import annotations

import pytest

from persona_hub.core.words import jaccard, split_words, word_set


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A baker, who bakes; a BAKER.", ["a", "baker", "who", "bakes", "a", "baker"]),
        ("don't stop_here 42x", ["don", "t", "stop_here", "42x"]),
        # NFKC: ligature, full-width letters, superscript; case folding goes further than lower case.
        ("ﬁsh Ｃａｆé x² Straße", ["fish", "café", "x2", "strasse"]),
        ("Cafe\u0301 CAFÉ", ["café", "café"]),
        # Bigrams of a run without spaces; a run of one or two characters is itself.
        ("烘焙师傅", ["烘焙", "焙师", "师傅"]),
        ("人", ["人"]),
        ("北京 大", ["北京", "大"]),
        ("用Python写代码", ["用", "python", "写代", "代码"]),
        ("ﾊﾟﾝ屋", ["パン", "ン屋"]),  # half-width kana become whole ones
        ("นักอ่าน", ["นั", "ัก", "กอ", "อ่", "่า", "าน"]),
        # Vowel signs of Indian scripts are marks, no letters, and part of their word all the same.
        ("हिन्दी किताबें", ["हिन्दी", "किताबें"]),
        ("தமிழ் மொழி।", ["தமிழ்", "மொழி"]),
        ("... !? —", []),
        ("🥖👩‍🍳🎉", []),
        ("。、！", []),
        ("", []),
        ("a \ud83d b", ["a", "b"]),  # a lone surrogate is no letter and no crash
    ],
)
def test_words_of(text: str, words: list[str]) -> None:
    assert split_words(text) == words
    assert word_set(text) == set(words)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("one two three", "three two ONE", 1.0),
        ("one two three", "three four five", 1 / 5),
        ("one two", "three", 0.0),
        ("!!!", "...", 0.0),  # two texts without words have nothing in common
        ("!!!", "one", 0.0),
    ],
)
def test_jaccard(a: str, b: str, expected: float) -> None:
    assert jaccard(word_set(a), word_set(b)) == jaccard(word_set(b), word_set(a)) == expected
