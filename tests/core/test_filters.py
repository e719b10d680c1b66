"""Where a long text is cut."""

import pytest

from persona_hub.core.filters import cut_text


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("One two.", 8, ("One two.", False)),
        ("One two three. Four five six.", 20, ("One two three.", True)),
        ("One two three. Four five six.", 14, ("One two three.", True)),
        ('He said "no." Then he left the room.', 16, ('He said "no."', True)),
        ("一二三四五。六七八九十。", 8, ("一二三四五。", True)),
        ("first line\nsecond line", 14, ("first line", True)),
        ("no sentence ends anywhere here", 15, ("no sentence", True)),
        ("x" * 30, 10, ("x" * 10, True)),
        ("Hm. " + "x" * 30, 20, ("Hm. " + "x" * 16, True)),
    ],
)
def test_text_is_cut_at_a_sentence(text: str, limit: int, expected: tuple[str, bool]) -> None:
    assert cut_text(text, limit) == expected
