"""Keys by prefix: of two similar sets' rarest words, one at least is the same.

The prefix filter (Chaudhuri, Ganti, Kaushik: A Primitive Operator for Similarity Joins in Data Cleaning, ICDE 2006;
Bayardo, Ma, Srikant: Scaling Up All Pairs Similarity Search, WWW 2007). Jaccard >= t of sets of a and b words means
that they share at least ceil(t * max(a, b)) words. All but ceil(t * n) - 1 of a set's n words are its prefix, so one
shared word at least lies in it, on both sides; and of one order for all words, the first shared word lies in both.
Any order is exact; with the rarest words first, few sets share a key.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from persona_hub.dedup.tokens import WordSets
from persona_hub.dedup.word_keys import Signatures, mix, set_hashes, sketches

_KEY_SALT = 0x8EBC6AF09C88C6E3  # stored keys depend on it: never change


def learn_order(sets: WordSets, at_most: int = 65_536) -> NDArray[np.uint64]:
    """The most frequent words of a sample, most frequent first.

    Args:
        sets: n sets of the corpus; what they do not hold counts as rare.
        at_most: words to keep. Those beyond are rare enough to go by their hashes.

    Returns:
        (k,) distinct hashes; part of the keys' meaning: sets signed with another order share no keys with these.
    """
    hashes, counts = np.unique(sets.hashes, return_counts=True)
    return hashes[np.lexsort((hashes, -counts))][:at_most]


def sign_prefix(sets: WordSets, threshold: Fraction, order: NDArray[np.uint64]) -> Signatures:
    """Signs n sets for Jaccard >= threshold by their n - ceil(t * n) + 1 rarest words; all keys probe.

    Args:
        order: (k,) distinct hashes of frequent words, as `learn_order` gives them, the same for all that is compared.
    """
    sizes = sets.sizes
    kept = count_prefix(sizes, threshold)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    weights = sort_words(sets, order)
    places = np.arange(starts[-1]) + np.repeat(sets.starts[:-1] - starts[:-1], kept)
    return Signatures(
        sizes=sizes.astype(np.int32),
        set_hashes=set_hashes(sets),
        sketches=sketches(sets),
        # The weight is the key, so that words of the same weight count as one and their order does not matter.
        keys=mix(weights[places], _KEY_SALT),
        starts=starts,
        probes=kept.astype(np.int32),
    )


def count_prefix(sizes: NDArray[np.int64], threshold: Fraction) -> NDArray[np.int64]:
    """(n,) n - ceil(t * n) + 1, the words of which one is shared where ceil(t * n) are; 0 of an empty set."""
    return np.where(sizes > 0, sizes + 1 + (-sizes * threshold.numerator // threshold.denominator), 0)


def sort_words(sets: WordSets, order: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(m,) weights of the words, rising within each row: words outside of `order` by hash, then it from its end."""
    # Sorted are whole numbers of row and word's rank, which takes half the time of sorting by row and by weight.
    slots = int(sets.ids.max(initial=-1)) + 1
    hashes, seen = np.zeros(slots, np.uint64), np.zeros(slots, np.bool_)
    hashes[sets.ids], seen[sets.ids] = sets.hashes, True
    distinct = np.flatnonzero(seen)
    weights = _weigh(hashes[distinct], order)
    rising = np.argsort(weights)
    ranks = np.zeros(slots, np.int64)
    ranks[distinct[rising]] = np.arange(len(distinct))
    row_and_rank = np.repeat(np.arange(len(sets.sizes)) << 32, sets.sizes) | ranks[sets.ids]
    row_and_rank.sort()
    return weights[rising][row_and_rank & 0xFFFFFFFF]


def _weigh(hashes: NDArray[np.uint64], order: NDArray[np.uint64]) -> NDArray[np.uint64]:
    weights = hashes >> np.uint64(1)  # the upper half of the numbers is for the words of the order
    if len(order):
        by_hash = np.argsort(order)
        places = by_hash[np.searchsorted(order, hashes, sorter=by_hash) % len(order)]
        known = order[places] == hashes
        weights[known] = ~places[known].astype(np.uint64)
    return weights
