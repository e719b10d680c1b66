"""From the bytes of a web page to its main text, and what it says to robots.

Main text is found by resiliparse's extractor. Charsets are sought where the HTML standard seeks them, in its order:
byte order mark, HTTP header, meta element, and then by detection.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from dataclasses import dataclass

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import DocumentNode, HTMLTree

MIN_MAIN = 200
"""Characters of main text below which the whole text is taken, where it has four times as many."""
MANY_TAGS = 3_000
"""Tags below which the depth is not looked at: nested they cost a fraction of a second."""
MAX_DEPTH = 500
"""Elements inside each other above which main text is not sought: its cost grows with the square of the depth."""
META_BYTES = 4_096
MAX_REOPENED = 500_000
"""Elements that a parser may add for formatting left open, which it opens again in each paragraph that follows."""

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META_CHARSET = re.compile(rb"<meta\b[^>]{0,500}?\bcharset\s{0,9}=\s{0,9}[\"']?\s{0,9}([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_WIDER = {"gbk": "gb18030", "gb2312": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs"}
_DEEP = ">".join(["*"] * MAX_DEPTH)
_NAMES = r"</?(?:b(?:ig)?|code|em|font|i|s(?:mall|tr(?:ike|ong))?|tt|u)"
_FORMATTING = re.compile(rf"<({_NAMES[1:]})[\s/>]".encode())
_FORMATTING_TAG = re.compile(rf"{_NAMES}(?:[\s/][^>]*)?>", re.IGNORECASE)
_META = re.compile(rb"<meta\b[^>]{0,2000}")
_WORDS = re.compile(rb"noindex|noai\b|none\b")
_ROBOTS = re.compile(r"robots?$|bots?$|spider$|crawler$|slurp$")
_KEYED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


@dataclass(frozen=True, slots=True)
class HtmlText:
    """Text of a page.

    Attributes:
        text: its main content, line by line; the whole where next to none was found.
        directives: of `noindex` and `noai`, those that its meta elements give.
        too_deep: it nests so deep that main content was not sought.
    """

    text: str
    directives: frozenset[str]
    too_deep: bool


def decode_text(body: bytes, declared: str, *, is_html: bool) -> tuple[str, bool]:
    """Turns bytes into text.

    Args:
        body: a document.
        declared: charset of the HTTP header, or nothing.
        is_html: whether a meta element may name the charset.

    Returns:
        The text, and whether bytes that are no text in its charset became U+FFFD.
    """
    for mark, codec in _BOMS:
        if body.startswith(mark):
            return _decode(body[len(mark) :], codec)
    label = declared
    if not label and is_html and (meta := _META_CHARSET.search(body, 0, META_BYTES)):
        label = meta[1].decode("ascii")
        if label.lower().startswith("utf-16"):  # it was readable as ASCII
            label = "utf-8"
    if name := _find_codec(label):
        text, invalid = _decode(body, name)
        if not invalid or text.count("\ufffd") * 200 < len(text):
            return text, invalid
    text, invalid = _decode(body, "utf-8")
    if not invalid:
        return text, False
    return _decode(body, _find_codec(detect_encoding(body) or "") or "utf-8")


def read_html(text: str) -> HtmlText:
    """Extracts the main text of an HTML document."""
    # Bytes: counting and lower() take a fraction of what they take in a text.
    raw = text.encode("utf-8", "replace").lower()
    tags = raw.count(b"<")
    if tags * tags > 4 * MAX_REOPENED and tags * _count_open(raw, MAX_REOPENED // tags) > MAX_REOPENED:
        text = _FORMATTING_TAG.sub("", text)
    tree = HTMLTree.parse(text)
    document = tree.document
    assert document is not None
    too_deep = tags >= MANY_TAGS and document.query_selector(_DEEP) is not None
    main = "" if too_deep else extract_plain_text(tree, preserve_formatting=True, main_content=True)
    if len(main) < MIN_MAIN:
        whole = extract_plain_text(tree, preserve_formatting=True, main_content=False)
        if len(whole) >= 4 * len(main):
            main = whole
    return HtmlText(main, _read_meta(document, raw), too_deep)


def read_directives(value: str) -> frozenset[str]:
    """Which of `noindex` and `noai` a robots meta element or an X-Robots-Tag header gives, to whatever robot.

    `none` means noindex (and nofollow); `noimageai` is about images and does not count.
    """
    found = set()
    for part in value.lower().split(","):
        key, colon, directive = part.strip().rpartition(":")
        word = directive.strip() if colon and key.strip() not in _KEYED else part.strip()
        if word in ("noindex", "none"):
            found.add("noindex")
        elif word == "noai":
            found.add("noai")
    return frozenset(found)


def _find_codec(label: str) -> str | None:
    """Python's codec for a charset label as the web means it (Latin-1 is Windows-1252); None where there is none."""
    known: str | None = map_encoding_to_html5(label, fallback_utf8=False) if label else None
    if known is None:
        return None
    try:
        name = codecs.lookup(known).name
    except LookupError:
        return None
    return _WIDER.get(name, name)


def _decode(body: bytes, name: str) -> tuple[str, bool]:
    try:
        return body.decode(name), False
    except ValueError:
        return body.decode(name, "replace"), True


def _count_open(raw: bytes, few: int) -> int:
    """How many formatting elements are open at once, at most; 0 where there are `few` in all."""
    found = _FORMATTING.findall(raw)
    still, now, most = Counter[bytes](), 0, 0
    for name in found if len(found) > few else ():
        if not name.startswith(b"/"):
            still[name] += 1
            now += 1
            most = max(most, now)
        elif still[name[1:]]:
            still[name[1:]] -= 1
            now -= 1
    return most


def _read_meta(document: DocumentNode, raw: bytes) -> frozenset[str]:
    if not any(_WORDS.search(tag) for tag in _META.findall(raw)):
        return frozenset()  # the tree is asked only where there is something to find
    found: frozenset[str] = frozenset()
    for element in document.query_selector_all("meta[name][content]"):
        if _ROBOTS.search((element.getattr("name") or "").strip().lower()):
            found |= read_directives(element.getattr("content") or "")
    return found
