"""The exact truth of a corpus, and what a peer's kept rows are worth against it.

All pairs of Jaccard >= 9/10 by our definition of words, in plain Python: a prefix filter over sets in the order of their
size (no sampling, no hashing of sets), each pair compared in integers. It shares no code with the engine but `word_set`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dedup_corpus import Corpus, name_row, read_texts

from persona_hub.core.keys import text_hash
from persona_hub.core.words import word_set


@dataclass(frozen=True)
class Truth:
    """Attributes: pairs int64 (n, 2), a < b, of row numbers; removed int64, ascending; survivors, theirs."""

    rows: int
    pairs: np.ndarray
    removed: np.ndarray
    survivors: np.ndarray


@dataclass(frozen=True)
class Verdict:
    """Attributes: kept rows; pairs of two kept rows; removed rows to which no kept one is similar."""

    kept: int
    missed: int
    wrong: int


def judge_kept(truth: Truth, kept: np.ndarray) -> Verdict:
    """Whatever its order of rows: what one may ask of any choice. Args: kept: row numbers."""
    is_kept = np.zeros(truth.rows, bool)
    is_kept[kept] = True
    a, b = truth.pairs.T
    has_survivor = is_kept.copy()
    has_survivor[a[is_kept[b]]] = True
    has_survivor[b[is_kept[a]]] = True
    return Verdict(int(is_kept.sum()), int((is_kept[a] & is_kept[b]).sum()), int((~has_survivor).sum()))


def find_truth(corpus: Corpus) -> Truth:
    """Computed where it is missing (a million: some minutes), and kept beside the corpus."""
    stored = [corpus.folder / f"truth_{name}.parquet" for name in ("pairs", "removed")]
    if not all(path.exists() for path in stored):
        _write_truth(corpus, *stored)
    pairs, removed = (pq.read_table(path) for path in stored)
    as_numpy = [pairs[name].to_numpy() for name in ("a", "b")]
    return Truth(corpus.rows, np.stack(as_numpy, 1), removed["row"].to_numpy(), removed["survivor"].to_numpy())


def _write_truth(corpus: Corpus, pairs_path: Path, removed_path: Path) -> None:
    sets, ranks = [], []
    numbers: dict[str, int] = {}
    for row, text in enumerate(read_texts(corpus)):
        sets.append([numbers.setdefault(word, len(numbers)) for word in word_set(text)])
        new = row >= corpus.rows - corpus.new
        ranks.append((new, text_hash(text), name_row(row, new)))  # the slice STORED is published first
    pairs = _find_pairs(sets)
    del sets
    order = sorted(range(len(ranks)), key=ranks.__getitem__)
    removed = _remove(pairs, order)
    _write(removed_path, {"row": [row for row, _ in removed], "survivor": [survivor for _, survivor in removed]})
    _write(pairs_path, {"a": [a for a, _ in pairs], "b": [b for _, b in pairs]})


def _find_pairs(sets: list[list[int]]) -> list[tuple[int, int]]:
    """Two sets of Jaccard >= 0.9 share one of their n - ceil(0.9 n) + 1 rarest words (Chaudhuri et al., ICDE 2006)."""
    frequency = Counter(word for words in sets for word in words)
    for words in sets:
        words.sort(key=lambda word: (frequency[word], word))
    index: defaultdict[int, list[int]] = defaultdict(list)
    pairs = []
    for row in sorted(range(len(sets)), key=lambda row: len(sets[row])):
        words, size = sets[row], len(sets[row])
        prefix, own, seen = size - -(-9 * size // 10) + 1, set(words), set()
        for word in words[:prefix] if words else ():
            for other in index[word]:
                if other in seen or 10 * len(sets[other]) < 9 * size:
                    continue
                seen.add(other)
                shared = len(own.intersection(sets[other]))
                if 10 * shared >= 9 * (size + len(sets[other]) - shared):
                    pairs.append((min(row, other), max(row, other)))
            index[word].append(row)
    return sorted(pairs)


def _remove(pairs: list[tuple[int, int]], order: list[int]) -> list[tuple[int, int]]:
    """A row goes exactly when a kept row of better rank is similar; its survivor is the best of them.

    Args:
        order: row numbers, the best rank first.
    """
    rank = {row: place for place, row in enumerate(order)}
    similar: defaultdict[int, list[int]] = defaultdict(list)
    for a, b in pairs:
        similar[a].append(b)
        similar[b].append(a)
    survivors: dict[int, int] = {}
    for row in order:
        better = [other for other in similar.get(row, ()) if rank[other] < rank[row] and other not in survivors]
        if better:
            survivors[row] = min(better, key=rank.__getitem__)
    return sorted(survivors.items())


def _write(path: Path, columns: dict[str, list[int]]) -> None:
    begun = path.with_suffix(".begun")
    pq.write_table(pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()}), begun)
    begun.rename(path)
