"""Texts to sets of numbered tokens, in bulk: what `core.words` defines, at Arrow's speed.

Within a process a token has a number, and two tokens never share one, so sets are compared exactly by their numbers;
between processes a token is known by its hash. The words of plain ASCII are found by the byte; `spell_words` brings
all other texts into the same form first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from persona_hub.dedup.spelling import spell_words
from persona_hub.dedup.vocabulary import LIMIT, Vocabulary

# What is no word character becomes a blank, for nothing else ends a word; the bytes of longer characters stay.
_PLAIN = bytes(byte if byte >= 128 or chr(byte).isalnum() or chr(byte) == "_" else 32 for byte in range(256)).lower()
_PIECE = 1 << 22  # bytes of text at once: what is made of them stays small beside a process, and below 32-bit offsets
_VOCABULARY = Vocabulary()


@dataclass(frozen=True)
class WordSets:
    """Token sets of n texts.

    Attributes:
        ids: int64 (m,), numbers of the process's vocabulary; within a row distinct and ascending.
        hashes: uint64 (m,), 64-bit BLAKE2b of each token's UTF-8, the same in all processes for ever.
        starts: int64 (n + 1,); row i's tokens are `ids[starts[i]:starts[i + 1]]`.
    """

    ids: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """int64 (n,), distinct tokens of each row."""
        return np.diff(self.starts)


def read_word_sets(texts: pa.Array | pa.ChunkedArray) -> WordSets:
    """The sets that `core.words.word_set` gives of (n,) strings; a null's is empty.

    Sets that `count_shared` is to compare are read in one call: between two the vocabulary may be emptied.
    """
    return _read_sets(texts, lambda words, starts: (words, starts))


def read_ngram_sets(texts: pa.Array | pa.ChunkedArray, n: int) -> WordSets:
    """Sets of all runs of n words in the order of `core.words.split_words`, each joined by blanks.

    A text of fewer words is one gram, all of it; one without words is an empty set. See `read_word_sets`.
    """
    return _read_sets(texts, lambda words, starts: _join_grams(words, starts, n))


def count_shared(a: WordSets, b: WordSets) -> NDArray[np.int64]:
    """int64 (n,): how many tokens row i of `a` and row i of `b` have in common.

    Raises:
        ValueError: the vocabulary was emptied between the reading of `a` and of `b`.
    """
    rows = len(a.starts) - 1
    if len(a.ids) == 0 or len(b.ids) == 0:
        return np.zeros(rows, np.int64)
    if _VOCABULARY.generation(a.ids[0]) != _VOCABULARY.generation(b.ids[0]):
        raise ValueError("sets numbered by two vocabularies; read what is compared in one call")
    lowest = min(a.ids.min(), b.ids.min())
    span = max(a.ids.max(), b.ids.max()) - lowest + 1
    both = np.concatenate([_rows_of(sets.starts) * span + (sets.ids - lowest) for sets in (a, b)])
    both.sort(kind="stable")  # two sorted runs: merged, not sorted
    return np.bincount(both[1:][both[1:] == both[:-1]] // span, minlength=rows)


def _read_sets(
    texts: pa.Array | pa.ChunkedArray,
    form: Callable[[pa.Array, NDArray[np.int64]], tuple[pa.Array, NDArray[np.int64]]],
) -> WordSets:
    if len(_VOCABULARY) > LIMIT:
        _VOCABULARY.forget()
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    found = [_collect(*form(*_split_words(piece))) for chunk in chunks for piece in _cut(chunk)]
    places = np.concatenate([np.empty(0, np.int64), *(places for places, _ in found)])
    starts = np.cumsum(np.concatenate([np.zeros(1, np.int64), *(sizes for _, sizes in found)]))
    return WordSets(places + _VOCABULARY.first, _VOCABULARY.hash(places), starts)


def _cut(texts: pa.Array) -> Iterator[pa.Array]:
    """Slices of at most `_PIECE` bytes, or of one text that is longer."""
    ends = np.cumsum(pc.fill_null(pc.binary_length(texts), 0).to_numpy(), dtype=np.int64)
    low, done = 0, 0
    while low < len(texts):
        high = max(low + 1, int(np.searchsorted(ends, done + _PIECE, "right")))
        yield texts.slice(low, high - low)
        low, done = high, int(ends[high - 1])


def _split_words(texts: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """The words of n texts in their order, and where each text's begin (n + 1); empty words among them."""
    texts = pc.fill_null(texts.cast(pa.string()), "")
    odd = pc.not_equal(pc.utf8_length(texts), pc.binary_length(texts))
    if pc.any(odd).as_py():
        texts = pc.replace_with_mask(texts, odd, spell_words(texts.filter(odd)))
    _, offsets, letters = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    plain = letters.slice(ends[0], ends[-1] - ends[0]).to_pybytes().translate(_PLAIN) if letters else b""
    texts = pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends - ends[0]), pa.py_buffer(plain))
    words = pc.ascii_split_whitespace(texts)
    return words.values, words.offsets.to_numpy().astype(np.int64)


def _join_grams(words: pa.Array, starts: NDArray[np.int64], n: int) -> tuple[pa.Array, NDArray[np.int64]]:
    real = pc.not_equal(words, "")
    words, starts = words.filter(real), np.append(0, np.cumsum(real.to_numpy(zero_copy_only=False)))[starts]
    sizes = np.diff(starts)
    gram_starts = np.append(0, np.cumsum(np.where(sizes > 0, np.maximum(sizes - n, 0) + 1, 0)))
    rows = _rows_of(gram_starts)
    first = np.arange(len(rows)) - gram_starts[rows] + starts[rows]
    # A null is skipped: the one gram of a short text ends with its text.
    columns = (words.take(pa.array(first + i, mask=i >= sizes[rows])) for i in range(n))
    return pc.binary_join_element_wise(*columns, " ", null_handling="skip"), gram_starts


def _collect(tokens: pa.Array, starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each row's distinct places in the vocabulary, ascending, and how many they are; the empty token is dropped."""
    encoded = tokens.dictionary_encode()
    indices, blank = encoded.indices.to_numpy(), pc.index(encoded.dictionary, "").as_py()
    marked = (_rows_of(starts) << 32) | _VOCABULARY.place(encoded.dictionary)[indices]
    if blank >= 0:
        marked = marked[indices != blank]
    marked.sort(kind="stable")  # rows are in order already, which a merge sort profits from
    marked = marked[np.append(True, marked[1:] != marked[:-1])[: len(marked)]]
    return marked & 0xFFFFFFFF, np.bincount(marked >> 32, minlength=len(starts) - 1)


def _rows_of(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))
