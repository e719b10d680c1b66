from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_hub.core.pii import find_pii, mask_pii


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to jane.doe+x@mail.example.org.", "Write to [email]."),
        ("info [at] example [dot] de", "[email]"),
        ("Ring +49 30 1234567 today", "Ring [phone] today"),
        ("Office: (555) 123-4567", "Office: [phone]"),
        ("555-123-4567", "[phone]"),
        ("Tel. 030/1234567", "[phone]"),
        ("电话：010-12345678", "[phone]"),
        ("Card 4111 1111 1111 1111 please", "Card [card] please"),
        ("from 8.8.8.8 came", "from [ipv4] came"),
        ("a@example.org, b@example.org", "[email], [email]"),
    ],
)
def test_masks(text, masked):
    assert mask_pii(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "On 2020-11-22 and from 1990-1995",
        "ISBN 978-3-16-148410-0",
        "Card 4111 1111 1111 1112",  # fails Luhn
        "version 1.2.3.4 and v8.8.8.8",
        "127.0.0.1, 192.168.0.10, 10.1.2.3 and 999.1.1.1",
        "Price 1,234,567.00 or 12 + 345 678 901",
        "@handle at home, a@b",
        "Add +5 to +60 and multiply by 7",
    ],
)
def test_leaves_alone(text):
    assert find_pii(text) == ()
    assert mask_pii(text) == text


def test_kinds_are_sorted_and_given_once():
    assert find_pii("tel 030 1234567, a@example.org, b@example.org, 8.8.8.8") == ("email", "ipv4", "phone")


@given(st.text(alphabet="a1@.+-( )[]\n:电话tel48", max_size=60))
def test_nothing_is_left_after_masking(text):
    assert find_pii(mask_pii(text)) == ()


@pytest.mark.parametrize("unit", ["a", "a.", "1 ", "1.1.1.1", "+1 ", "@", "a@a.", "(1)", "tel "])
def test_hostile_text_takes_linear_time(unit):
    started = time.monotonic()
    find_pii(unit * (100_000 // len(unit)))
    assert time.monotonic() - started < 2
