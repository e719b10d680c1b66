"""Web pages: charsets, main text, what they say to robots."""

import os
import subprocess
import sys

import pytest

from persona_hub.crawl.html import MANY_TAGS, MAX_DEPTH, decode_text, read_directives, read_html

MENU = "<nav><ul>" + "<li><a href='/'>menu</a></li>" * 30 + "</ul></nav>"
STORY = "<article><h1>Bread</h1><p>" + "Sourdough rises slowly in a cold kitchen. " * 10 + "</p><p>Second line.</p></article>"


@pytest.mark.parametrize(
    ("body", "declared", "text", "invalid"),
    [
        ("café".encode(), "", "café", False),
        ("café".encode("latin-1"), "iso-8859-1", "café", False),
        (b"\x93quoted\x94", "iso-8859-1", "“quoted”", False),
        ("\ufeffcafé".encode("utf-16-le"), "iso-8859-1", "café", False),
        ("\ufeffcafé".encode(), "", "café", False),
        (b"<meta charset=shift_jis>" + "日本語".encode("cp932"), "", "<meta charset=shift_jis>日本語", False),
        (b'<meta http-equiv=x content="text/html; charset=euc-kr">' + "한국".encode("cp949"), "", '<meta http-equiv=x content="text/html; charset=euc-kr">한국', False),
        ("日本語".encode("cp932"), "Shift_JIS", "日本語", False),
        ("中文".encode("gb18030"), "gb2312", "中文", False),
        (b"<meta charset=utf-16>caf\xc3\xa9", "", "<meta charset=utf-16>café", False),
        ("café".encode(), "no-such-charset", "café", False),
        (b"x" * 1000 + b"\xff", "utf-8", "x" * 1000 + "\ufffd", True),
    ],
)
def test_charset_is_found(body: bytes, declared: str, text: str, invalid: bool) -> None:
    assert decode_text(body, declared, is_html=True) == (text, invalid)


def test_charset_is_detected() -> None:
    text = "Привет, это обычный русский текст без указания кодировки. " * 5
    assert decode_text(text.encode("cp1251"), "", is_html=True) == (text, False)


def test_wrong_label_is_not_believed() -> None:
    text = "Ein Café in Köln, schöne Grüße. " * 5
    assert decode_text(text.encode("latin-1"), "utf-8", is_html=True) == (text, False)


def test_main_text_is_taken_line_by_line() -> None:
    page = read_html(f"<html><body>{MENU}{STORY}</body></html>")
    assert page.text.splitlines()[0] == "Bread"
    assert page.text.splitlines()[-1] == "Second line."
    assert "menu" not in page.text


def test_whole_text_is_taken_where_main_is_next_to_nothing() -> None:
    page = read_html(f"<html><body>{MENU}</body></html>")
    assert page.text.count("menu") == 30


@pytest.mark.parametrize(
    ("value", "directives"),
    [
        ("noindex", {"noindex"}),
        ("NoIndex, nofollow", {"noindex"}),
        ("none", {"noindex"}),
        ("noai, noimageai", {"noai"}),
        ("noimageai", set()),
        ("index, follow", set()),
        ("googlebot: noindex", {"noindex"}),
        ("otherbot: noindex, nofollow, ccbot: noai", {"noindex", "noai"}),
        ("unavailable_after: 25 Jun 2030 15:00:00 GMT", set()),
        ("max-snippet: none", set()),
        ("noindexing", set()),
        ("", set()),
    ],
)
def test_directives(value: str, directives: set[str]) -> None:
    assert read_directives(value) == directives


@pytest.mark.parametrize(
    ("tag", "directives"),
    [
        ("<meta name=robots content=noindex>", {"noindex"}),
        ("<META NAME='Robots' CONTENT='NOINDEX,FOLLOW'>", {"noindex"}),
        ('<meta content="noai" name="ccbot">', {"noai"}),
        ("<meta name=description content=noindex>", set()),
        ("<!-- <meta name=robots content=noindex> -->", set()),
        ("<meta name=robots content=all>", set()),
    ],
)
def test_meta_elements_are_read(tag: str, directives: set[str]) -> None:
    assert read_html(f"<html><head>{tag}</head><body>{STORY}</body></html>").directives == directives


def test_deep_page_gives_its_whole_text() -> None:
    deep = read_html("<div>" * MANY_TAGS + "hello")
    assert (deep.text.strip(), deep.too_deep) == ("hello", True)
    assert not read_html("<div>" * (MAX_DEPTH // 2) + "</div>" * MANY_TAGS + STORY).too_deep


def test_formatting_left_open_costs_neither_memory_nor_text() -> None:
    program = """
import resource
from persona_hub.crawl.html import read_html
text = read_html("<p>" + "".join(f"<B id={n}>" for n in range(3_000)) + "<p>one &lt;b&gt; two" * 6_000).text
assert text.split() == ["one", "<b>", "two"] * 6_000, text[:200]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 500  # MiB; a tree of 18 million elements has 7,000


def test_formatting_stays_where_it_is_closed() -> None:
    paragraphs = [f"<p><b id={n}>bold</b> and <i>leaning</i> text of paragraph {n}" for n in range(2_000)]
    lines = read_html("<body>" + "".join(paragraphs)).text.split("\n")
    assert [line for line in lines if line] == [f"bold and leaning text of paragraph {n}" for n in range(2_000)]
