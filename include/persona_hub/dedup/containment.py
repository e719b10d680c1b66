"""Keys by containment: what finds a text inside a longer one.

|A & B| / min(|A|, |B|) >= c says nothing of the longer text's size, so no partition and no prefix of it will do: each
text stores all its n-grams. The shorter one, of n of them, shares ceil(c * n), so of any n - ceil(c * n) + 1 of its
n-grams one at least is in the other (the pigeonhole of the prefix filter, prefix.py): these probe. They are the
lowest by hash, so that texts that say the same probe with the same.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from persona_hub.dedup.prefix import count_prefix, sort_words
from persona_hub.dedup.tokens import WordSets
from persona_hub.dedup.word_keys import Signatures, mix, set_hashes, sketches

_KEY_SALT = 0x589965CC75374CC3  # stored keys depend on it: never change


def sign_containment(sets: WordSets, threshold: Fraction) -> Signatures:
    """Signs n sets of n-grams for containment >= threshold: every n-gram is a key, the lowest ones probe.

    Two sets so similar share a probing key of the smaller one; of equally large sets, of both.
    """
    return Signatures(
        sizes=sets.sizes.astype(np.int32),
        set_hashes=set_hashes(sets),
        sketches=sketches(sets),
        keys=mix(sort_words(sets, np.zeros(0, np.uint64)), _KEY_SALT),
        starts=sets.starts,
        probes=count_prefix(sets.sizes, threshold).astype(np.int32),
    )
