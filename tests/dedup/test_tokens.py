"""Sets in bulk are those of `core.words`, for every text that there is."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from hashlib import blake2b
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_hub.core.words import split_words, word_set
from persona_hub.crawl.records import ReadReport, read_pages
from persona_hub.dedup import tokens
from persona_hub.dedup.tokens import WordSets, count_shared, read_ngram_sets, read_word_sets

UNICODE = st.characters(exclude_categories=("Cs",))
# Where words, marks, composition, case folding and scripts without spaces meet.
TRICKY = st.sampled_from(
    [
        *" \n\r\x00\x1c\x85\u2028_-AaıİŉßſK1²½ﬁ…é¨´Σςאبःหนักㄱあアガーﾊﾟ人屋한각북\U00020000🥖",
        *map(chr, range(0x300, 0x346)),
        *"\u0903\u093f\u094d\u0e31\u0eb3\u1039\u0338\u1100\u1161\u11a8\u3099\u200b\u200d\ufb1d\ufdfa",
    ]
)
TEXTS = st.lists(st.none() | st.text(UNICODE) | st.text(TRICKY) | st.text(max_size=20, alphabet="ab A.\n"), max_size=8)
EDGES = [
    "", " \t\n", "word", "... !? —", "🥖👩‍🍳🎉", "שלום, עולם! مرحبا بالعالم", "烘焙师傅写Python代码", "a\x00b\x1fc\x7fd\x85e", "x_y 42",
    "Straße ﬁsh Ｃａｆé", "A b\na B", "\n\n", "\u0301a", "ÀÉ", "หนังสือ abc", None,
]  # fmt: skip


def look_up(sets: WordSets) -> list[frozenset[int]]:
    """The hashes of each row, having checked what a `WordSets` promises."""
    rows = list(pairwise(sets.starts.tolist()))
    assert (sets.ids.dtype, sets.hashes.dtype, sets.starts.dtype) == (np.int64, np.uint64, np.int64)
    assert sets.starts[0] == 0 and sets.starts[-1] == len(sets.ids) == len(sets.hashes)
    assert all((np.diff(sets.ids[low:high]) > 0).all() for low, high in rows)
    assert len(set(zip(sets.ids.tolist(), sets.hashes.tolist(), strict=True))) == len(set(sets.ids.tolist()))
    assert sets.sizes.tolist() == [high - low for low, high in rows]
    return [frozenset(sets.hashes[low:high].tolist()) for low, high in rows]


def hash_all(words: frozenset[str] | set[str]) -> frozenset[int]:
    return frozenset(int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little") for word in words)


def list_grams(text: str | None, n: int) -> set[str]:
    words = split_words(text or "")
    return {" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} if words else set()


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_sets_are_those_of_core_words(texts: list[str | None]) -> None:
    assert look_up(read_word_sets(pa.array(texts, pa.string()))) == [hash_all(word_set(text or "")) for text in texts]


def test_sets_of_edges_in_every_arrow_form() -> None:
    expected = [hash_all(word_set(text or "")) for text in EDGES]
    plain = pa.array(EDGES, pa.string())
    padded = pa.array(["left out é", *EDGES, "left out too"], pa.string())
    for form in (plain, pa.array(EDGES, pa.large_string()), padded.slice(1, len(EDGES))):
        assert look_up(read_word_sets(form)) == expected
    assert look_up(read_word_sets(pa.chunked_array([plain, padded.slice(1, 3), plain.slice(0, 0)]))) == (
        expected + expected[:3]
    )
    for nothing in (pa.array([], pa.string()), pa.chunked_array([], pa.string())):
        assert look_up(read_word_sets(nothing)) == []
    assert look_up(read_word_sets(pa.array([None, None], pa.string()))) == [frozenset(), frozenset()]


def test_characters_alone_inside_a_word_and_among_han() -> None:
    """All marks and the alphabets of the West, and of the other assigned characters as many again."""
    known = {chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")}
    marks = {char for char in known if unicodedata.category(char).startswith("M")}
    others = random.Random(6).sample(sorted(known - marks), 5_000)
    chosen = sorted({*marks, *others, *map(chr, range(0x800))})
    texts = [form for char in chosen for form in (char, f"a{char}b", f"人{char}人人")]
    assert len(chosen) > 8_000
    assert look_up(read_word_sets(pa.array(texts))) == [hash_all(word_set(text)) for text in texts]


def test_sets_of_real_personas_and_pages(real_personas: Callable[[int], list[str]], shared_data: Path) -> None:
    with (shared_data / "crawl/common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz").open("rb") as crawl:
        read = islice(read_pages(crawl, "CC-MAIN-2020-50-sample.warc.wet.gz", ReadReport()), 300)
        pages = [page.text.encode(errors="replace").decode() for page in read]
    assert sum(not page.isascii() for page in pages) > 100
    for texts in (real_personas(3_000), pages):
        assert look_up(read_word_sets(pa.array(texts))) == [hash_all(word_set(text)) for text in texts]


def test_a_hundred_thousand_words() -> None:
    words = [f"w{i}" for i in range(100_000)]
    for longest in (" ".join(words), "é " + " ".join(words)):
        found = look_up(read_word_sets(pa.array(["a b", longest, "b a"])))
        assert found == [hash_all({"a", "b"}), hash_all(word_set(longest)), hash_all({"a", "b"})]


def test_pieces_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array([text or "" for text in EDGES] * 3)
    whole = look_up(read_word_sets(texts))
    for piece in (1, 7, 60):
        monkeypatch.setattr(tokens, "_PIECE", piece)
        assert look_up(read_word_sets(texts)) == whole


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(1, 5))
def test_grams_are_runs_of_words(texts: list[str | None], n: int) -> None:
    found = look_up(read_ngram_sets(pa.array(texts, pa.string()), n))
    assert found == [hash_all(list_grams(text, n)) for text in texts]


def test_grams_of_short_texts_and_of_repeated_words() -> None:
    found = look_up(read_ngram_sets(pa.array(["A b, c!", "a b", "", None, "a b a b a", "烘焙师傅"]), 3))
    assert found == [
        hash_all(grams) for grams in ({"a b c"}, {"a b"}, set(), set(), {"a b a", "b a b"}, {"烘焙 焙师 师傅"})
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.text("abcdefé .", max_size=12), st.text("abcdefé .", max_size=12)), max_size=12))
def test_shared_tokens_are_counted(pairs: list[tuple[str, str]]) -> None:
    both = read_word_sets(pa.array([text for pair in pairs for text in pair], pa.string()))
    places = np.arange(2 * len(pairs)).reshape(-1, 2)
    a, b = (take_rows(both, places[:, side]) for side in (0, 1))
    assert count_shared(a, b).tolist() == [len(word_set(left) & word_set(right)) for left, right in pairs]


def take_rows(sets: WordSets, rows: np.ndarray) -> WordSets:
    parts = [slice(sets.starts[row], sets.starts[row + 1]) for row in rows]
    cut = [np.concatenate([part[:0], *(part[at] for at in parts)]) for part in (sets.ids, sets.hashes)]
    return WordSets(*cut, np.append(0, np.cumsum(sets.sizes[rows])))


def test_emptying_the_vocabulary_mixes_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_VOCABULARY", tokens.Vocabulary())
    monkeypatch.setattr(tokens, "LIMIT", 3)
    before = read_word_sets(pa.array(["one two", "three four"]))
    after = read_word_sets(pa.array(["five two", "three four"]))  # four are more than three: emptied first
    assert look_up(after) == [hash_all({"five", "two"}), hash_all({"three", "four"})]
    assert not set(before.ids.tolist()) & set(after.ids.tolist())
    for sets in (before, after):
        assert count_shared(sets, sets).tolist() == [2, 2]
    with pytest.raises(ValueError, match="one call"):
        count_shared(before, after)


def test_many_tokens_keep_their_hashes() -> None:
    """More than the vocabulary's first room for hashes."""
    words = [f"{i:x}é" for i in range(140_000)]
    found = read_word_sets(pc.binary_join(pa.array([words]), " "))
    assert look_up(found) == [hash_all(set(words))]


def test_hashes_never_change() -> None:
    found = read_word_sets(pa.array(["baker É"]))
    assert set(found.hashes.tolist()) == {338163068253834187, 3394012004367669963}
