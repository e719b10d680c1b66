"""White space and weights."""

import pytest

from persona_hub.core.text import count_unspaced, normalize_whitespace, weigh_chars


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t b\u00a0c  ", "a b c"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a \n \n\n  b", "a\nb"),
        ("\ufeffa\x00b\x1b\u200bc", "abc"),
        ("全角\u3000空白", "全角 空白"),
        (" \n\t ", ""),
    ],
)
def test_whitespace_is_normalized(text: str, expected: str) -> None:
    assert normalize_whitespace(text) == expected
    assert normalize_whitespace(expected) == expected


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("", 0),
        ("abc", 3),
        ("Füße", 4),
        ("茶", 4),
        ("ねこa", 9),
        ("สวัสดี", 24),
        ("한국", 2),
        ("\U00020000", 4),
        ("，。", 2),
    ],
)
def test_characters_of_scripts_without_spaces_weigh_four(text: str, weight: int) -> None:
    assert weigh_chars(text) == weight
    assert count_unspaced(text) == (weight - len(text)) // 3
