"""Benches of deduplication: `python tests/bench/dedup.py [part ...]`.

    words        a million personas by word sets, exactly, beside rensa and the exact truth
    minhash      the same by the paper's method
    incremental  10,000 new personas against a million stored ones
    peers        100,000 personas beside rensa, datasketch, datatrove and text-dedup: who is kept, missed, wrongly removed
    slope        1, 3 and 10 million rows: seconds and memory, drawn in docs/pictures/dedup_slope.png
    vectors      cosine among a million vectors, beside faiss
    new_vectors  10,000 new vectors against a million stored ones
    embedding    personas → vectors, beside plain sentence-transformers

Personas are crossed from the real ones of the test data (HUB_TEST_DATA), once, into .hub/bench/dedup (eight gigabytes).
Peers run in an environment of their own, made once in .hub/bench-peers-dedup. Ratios are what counts: run it on a
machine that does nothing else. Without a part it runs all of them (two hours).
"""

from __future__ import annotations

from bench_main import run_parts

PARTS = ("words", "minhash", "incremental", "peers", "slope", "vectors", "new_vectors", "embedding")

if __name__ == "__main__":
    run_parts("dedup", PARTS, __doc__)
