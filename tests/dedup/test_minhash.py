"""MinHash: its bands, how many pairs they truly find, and what is stored of a set."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_hub.dedup import minhash
from persona_hub.dedup.minhash import VALUES, choose_bands, expected_recall, sign_minhash
from persona_hub.dedup.tokens import WordSets, read_word_sets
from persona_hub.dedup.word_keys import Signatures, choose_method, mix, set_hashes, sketches
from persona_hub.errors import SettingsError

THRESHOLDS = [Fraction(50 + step, 100) for step in range(51)]
WORDS = st.lists(st.lists(st.sampled_from("abcdefghij"), max_size=12), max_size=12)


def make_pairs(seed: int, count: int, shared: int, own: int) -> WordSets:
    """2 * count sets of random tokens; each two in a row have Jaccard shared / (shared + 2 * own)."""
    size = shared + own
    drawn = np.random.default_rng(seed).integers(0, 2**64, (count, 2, size), np.uint64)
    drawn[:, 1, :shared] = drawn[:, 0, :shared]
    numbers = np.unique(drawn.ravel(), return_inverse=True)[1].reshape(-1, size)
    order = np.argsort(numbers, axis=1)
    ids = np.take_along_axis(numbers, order, 1).ravel().astype(np.int64)
    hashes = np.take_along_axis(drawn.reshape(-1, size), order, 1).ravel()
    return WordSets(ids, hashes, np.arange(2 * count + 1) * size)


def list_keys(signatures: Signatures) -> list[list[int]]:
    return [signatures.keys[low:high].tolist() for low, high in pairwise(signatures.starts.tolist())]


def share_found(signatures: Signatures) -> float:
    keys = signatures.keys.reshape(len(signatures.sizes) // 2, 2, -1)
    return float((keys[:, 0] == keys[:, 1]).any(axis=1).mean())


def test_the_papers_threshold() -> None:
    assert choose_bands(0.9) == choose_bands(Fraction(9, 10)) == (18, 7)
    assert 1 - expected_recall(0.9, 18, 7) == pytest.approx(1 / 122_000, rel=0.01)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_bands_find_what_stands_at_the_threshold_and_no_wider_band_would(threshold: Fraction) -> None:
    bands, rows = choose_bands(threshold)
    assert bands * rows <= VALUES
    assert 1 - (1 - float(threshold) ** rows) ** bands >= 0.9999
    wider = [r for r in range(rows + 1, VALUES + 1) if 1 - (1 - float(threshold) ** r) ** (VALUES // r) >= 0.9999]
    assert wider == []


@pytest.mark.parametrize(
    ("shared", "own", "bands", "rows"),
    [(18, 1, 18, 7), (36, 2, 18, 7), (14, 3, 18, 7), (10, 5, 18, 7), (8, 8, 18, 7), (10, 5, 64, 2), (2, 9, 64, 2)],
)
def test_pairs_are_found_as_often_as_the_formula_says(
    monkeypatch: pytest.MonkeyPatch, shared: int, own: int, bands: int, rows: int
) -> None:
    monkeypatch.setattr(minhash, "choose_bands", lambda _: (bands, rows))
    count = 4_000
    found = share_found(sign_minhash(make_pairs(shared, count, shared, own), Fraction(9, 10)))
    expected = expected_recall(Fraction(shared, shared + 2 * own), bands, rows)
    assert found == pytest.approx(expected, abs=4.5 * (expected * (1 - expected) / count) ** 0.5 + 1e-3)


@pytest.mark.parametrize(("shared", "own"), [(18, 1), (9, 1), (8, 2), (6, 2)])
def test_recall_exactly_at_the_threshold(shared: int, own: int) -> None:
    threshold = Fraction(shared, shared + 2 * own)
    found = share_found(sign_minhash(make_pairs(own, 10_000, shared, own), threshold))
    assert expected_recall(threshold, *choose_bands(threshold)) >= 0.9999
    assert found >= 0.9995  # one miss of 10,000 is expected, and more than five come once in thousands


def test_a_band_needs_all_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    for bands, expected in ((1, 0.0), (VALUES, 1.0)):
        monkeypatch.setattr(minhash, "choose_bands", lambda _, bands=bands: (bands, VALUES // bands))
        assert share_found(sign_minhash(make_pairs(7, 300, 4, 4), Fraction(1, 2))) == expected


def test_values_of_a_token_are_independent() -> None:
    """The least of ten tokens is each of them equally often, whatever it is under another value."""
    hashes = np.random.default_rng(11).integers(0, 2**64, 20_000, np.uint64)
    table = minhash._value_tokens(hashes, VALUES)
    least = table.reshape(2_000, 10, VALUES).argmin(axis=1)
    assert np.bincount(least.ravel(), minlength=10) == pytest.approx([25_600] * 10, rel=0.03)
    agree = (least[:, :-1] == least[:, 1:]).mean(axis=0)
    assert agree == pytest.approx([0.1] * (VALUES - 1), abs=4.5 * (0.09 / 2_000) ** 0.5)


@settings(max_examples=100, deadline=None)
@given(WORDS, st.sampled_from(THRESHOLDS))
def test_signatures_say_what_they_promise(rows: list[list[str]], threshold: Fraction) -> None:
    sets = read_word_sets(pa.array([" ".join(row) for row in rows], pa.string()))
    signed = sign_minhash(sets, threshold)
    bands = choose_bands(threshold)[0]
    assert [part.dtype.name for part in signed] == ["int32", "uint64", "uint64", "uint64", "int64", "int32"]
    assert signed.sizes.tolist() == [len(set(row)) for row in rows]
    assert signed.probes.tolist() == [bands if row else 0 for row in rows] == [len(keys) for keys in list_keys(signed)]
    assert all(len(set(keys)) == len(keys) for keys in list_keys(signed))
    said = list(zip(*(part.tolist() for part in signed[:3]), list_keys(signed), strict=True))
    for i, row in enumerate(rows):
        for j, other in enumerate(rows):
            assert (said[i] == said[j]) == (set(row) == set(other))
            difference = len(set(row) ^ set(other))
            distance = (said[i][2] ^ said[j][2]).bit_count()
            assert distance <= difference and (difference - distance) % 2 == 0


def test_rows_are_signed_alike_in_any_company(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["", "one", *(" ".join(f"w{i * k}" for i in range(k + 1)) for k in range(1, 40)), "", "one two"]
    alone = [list_keys(sign_minhash(read_word_sets(pa.array([text])), Fraction(9, 10)))[0] for text in texts]
    sets = read_word_sets(pa.array(texts))
    assert list_keys(sign_minhash(sets, Fraction(9, 10))) == alone
    for name, value in (("_TOKENS", 1), ("_TOKENS", 50), ("_ROWS", 3), ("_LONG", 1), ("_LONG", 20)):
        with monkeypatch.context() as patch:
            patch.setattr(minhash, name, value)
            assert list_keys(sign_minhash(sets, Fraction(9, 10))) == alone


def test_a_hundred_thousand_words() -> None:
    words = [f"w{i}" for i in range(100_000)]
    sets = read_word_sets(pa.array([" ".join(words), " ".join(reversed(words)), " ".join(words[:-1]), "w1"]))
    keys = list_keys(sign_minhash(sets, Fraction(9, 10)))
    assert keys[0] == keys[1]
    assert set(keys[0]) & set(keys[2]) and not set(keys[0]) & set(keys[3])


def test_what_is_stored_never_changes() -> None:
    """Golden values: keys of today must meet those of years ago."""
    sets = read_word_sets(pa.array(["a baker who bakes", ""]))
    assert mix(np.array([0, 1, 2**64 - 1], np.uint64), 7).tolist() == [
        1346066267577507604,
        15378420243238726120,
        15093541023163888492,
    ]
    assert set_hashes(sets).tolist() == [12244670889916832549, 0]
    assert sketches(sets).tolist() == [285873576869888, 0]
    assert sign_minhash(sets, Fraction(9, 10)).keys[[0, 1, 17]].tolist() == [
        5804970182300976740,
        8316988110246426370,
        11864461711007286080,
    ]


@pytest.mark.parametrize(
    ("method", "threshold", "chosen"),
    [
        ("exact", Fraction(1), "partenum"),
        ("exact", Fraction(17, 20), "partenum"),
        ("exact", Fraction(849, 1000), "prefix"),
        ("exact", Fraction(1, 2), "prefix"),
        ("minhash", Fraction(1, 2), "minhash"),
        ("minhash", Fraction(9, 10), "minhash"),
    ],
)
def test_methods_are_chosen_by_threshold(method: str, threshold: Fraction, chosen: str) -> None:
    assert choose_method(method, threshold) == chosen


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(SettingsError, match="'simhash'.*exact or minhash"):
        choose_method("simhash", Fraction(9, 10))
