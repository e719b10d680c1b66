"""From the block of a response to the text of a page, or the reason why it is none."""

from __future__ import annotations

import re
from dataclasses import dataclass

from persona_hub.core.verdict import Rejection
from persona_hub.crawl.html import decode_text, read_directives, read_html
from persona_hub.crawl.payload import HttpResponse, decode_body, parse_response
from persona_hub.crawl.report import ReadReport

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
TEXT_TYPE = "text/plain"
OK = 200
SHOWN = 60

_CHARSET = re.compile(r"charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_HTML_START = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,1000}<(?:!doctype html|html|head|body|title|meta|!--)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PageContent:
    """A page's text, whether bytes in it were no text, and why it is refused (`text` is empty then)."""

    text: str
    invalid: bool = False
    refusal: Rejection | None = None


def read_content(block: bytes, report: ReadReport) -> PageContent:
    """Reads a response.

    Refusals, in their order: `not_http`, `http_status` (other than 200), `media_type` (neither HTML nor plain text),
    `noindex` and `noai` (by header or meta element).
    """
    response = parse_response(block)
    if response is None:
        return _refuse("not_http", repr(block[:SHOWN]))
    if response.status != OK:
        return _refuse("http_status", str(response.status))
    value = _join(response, b"content-type")
    body, whole = decode_body(response)
    if not whole:
        report.note("bad_encoding", f"a body of {_join(response, b'content-encoding') or 'chunks'} breaks off")
    media_type = value.split(";")[0].split(",")[0].strip().lower()
    if not media_type and _HTML_START.match(body):
        media_type = "text/html"
    is_html = media_type in HTML_TYPES
    if not is_html and media_type != TEXT_TYPE:
        return _refuse("media_type", media_type[:SHOWN])
    robots = _join(response, b"x-robots-tag")
    if directives := read_directives(robots):
        return _refuse(max(directives), f"X-Robots-Tag: {robots[:SHOWN]}")
    charset = _CHARSET.search(value)
    text, invalid = decode_text(body, charset[1] if charset else "", is_html=is_html)
    if not is_html:
        return PageContent(text, invalid)
    html = read_html(text)
    if html.too_deep:
        report.note("bad_html", "elements nest so deep that main content was not sought; the whole text is used")
    if html.directives:
        return _refuse(max(html.directives), "meta element")
    return PageContent(html.text, invalid)


def _join(response: HttpResponse, name: bytes) -> str:
    return response.headers.get(name, b"").decode("latin-1")


def _refuse(rule: str, detail: str) -> PageContent:
    return PageContent("", False, Rejection(rule, detail))
