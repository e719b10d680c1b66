"""Personal data in text: e-mail addresses, phone numbers, credit cards, public IPv4 addresses.

Conservative on purpose: a number is a phone number only where it is written as one (a leading +, a label such as
`tel`, or the grouped North American form), so years, prices, ISBNs and dates stay. Names are not looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address

# Quantifiers are bounded, so a hostile page of one kind of character stays linear.
_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.%+-]{1,64}\s?(?:@|\(at\)|\[at\])\s?(?:[\w-]{1,63}(?:\.|\s?(?:\(dot\)|\[dot\])\s?)){1,8}[^\W\d_]{2,24}(?![\w-])",
    re.IGNORECASE,
)
_CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w-]|\.\d)")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_VERSION = re.compile(r"(?:version|ver|release|v)[.:]?\s?$", re.IGNORECASE)
_PHONE = re.compile(
    r"""
    (?<![\w.,/-])(?:
        (?:\+|\b00)[1-9]\d{0,2}(?:[ ./-]{0,2}\(?\d{1,4}\)?){2,6}                        # international
      | \(\d{3}\)[ ]?\d{3}[ .-]\d{4} | \d{3}([.-])\d{3}\1\d{4}                                  # North America
      | (?:tel|telephone|phone|mobile|fax|whatsapp|手机|电话|電話)\b[ .:：]{0,3}\(?\d(?:[ ()./-]{0,2}\d){6,13}   # labelled
    )(?!\w|[.,-]\d)
    """,
    re.VERBOSE | re.IGNORECASE,
)


def find_pii(text: str) -> tuple[str, ...]:
    """Kinds of personal data in the text, sorted, each once: `card`, `email`, `ipv4`, `phone`."""
    return tuple(sorted({kind for kind, _, _ in _find_spans(text)}))


def mask_pii(text: str) -> str:
    """The text with each find replaced by `[email]`, `[phone]`, `[card]` or `[ipv4]`.

    Nothing is found in the result: masking twice is masking once.
    """
    parts, end = [], 0
    for kind, start, stop in _find_spans(text):
        parts += [text[end:start], f"[{kind}]"]
        end = stop
    return "".join(parts) + text[end:]


def _find_spans(text: str) -> Iterator[tuple[str, int, int]]:
    """Finds in order of place; where two overlap, the earlier one, of equal starts the longer."""
    found = [("email", *match.span()) for match in _EMAIL.finditer(text)]
    found += [("card", *match.span()) for match in _CARD.finditer(text) if _passes_luhn(match.group())]
    found += [("ipv4", *match.span()) for match in _IPV4.finditer(text) if _is_public_address(text, match)]
    found += [("phone", *match.span()) for match in _PHONE.finditer(text) if _has_phone_digits(match.group())]
    end = 0
    for kind, start, stop in sorted(found, key=lambda span: (span[1], -span[2])):
        if start >= end:
            yield kind, start, stop
            end = stop


def _passes_luhn(number: str) -> bool:
    """ISO/IEC 7812-1, annex B, on 13 to 19 digits that begin like a payment card (3 to 6)."""
    digits = [int(digit) for digit in number if digit.isdigit()]
    if not 13 <= len(digits) <= 19 or digits[0] not in (3, 4, 5, 6):
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_public_address(text: str, match: re.Match[str]) -> bool:
    parts = [int(part) for part in match.group().split(".")]
    if any(part > 255 for part in parts) or not ip_address(".".join(map(str, parts))).is_global:
        return False
    return not _VERSION.search(text, max(0, match.start() - 10), match.start())


def _has_phone_digits(number: str) -> bool:
    return 7 <= sum(character.isdigit() for character in number) <= 15
