"""Persona corpora of any size: JSON lines for the peers, a Delta table for us. Made once, kept in .hub/bench/dedup.

Halves of real personas are crossed; a tenth are near-duplicates of earlier ones (shuffled, one word changed, one dropped,
lower-cased). The seed is fixed, so a smaller corpus is the beginning of a larger one.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench_tools import CHECKOUT
from deltalake import Schema
from deltalake.transaction import AddAction, create_table_with_add_actions

from persona_hub.core.keys import page_id, persona_id, text_hash

HOME = CHECKOUT / ".hub" / "bench" / "dedup"
ROWS_PER_FILE = 100_000
STORED, NEW = "CC-MAIN-2026-30/00001", "CC-MAIN-2026-30/00002"
SOURCES = 200_000  # as many personas at a time are what copies are made of


@dataclass(frozen=True)
class Corpus:
    """Personas numbered from 0; the first `rows - new` stand in the slice STORED, the others in NEW."""

    folder: Path
    rows: int
    new: int

    @property
    def lines(self) -> list[Path]:
        """JSON lines with `id`, the number, and `persona`."""
        return sorted((self.folder / "lines").iterdir())

    @property
    def table(self) -> Path:
        """Delta: slice, row_id, text, text_hash."""
        return self.folder / "table"


def find_personas() -> Path:
    """Folder of the real personas, which a clone does not have."""
    folder = Path(os.environ.get("HUB_TEST_DATA") or CHECKOUT.parent / "shared" / "data") / "personas"
    if not folder.is_dir():
        raise SystemExit(f"no test data at {folder.parent}: set HUB_TEST_DATA to their folder")
    return folder


def make_corpus(rows: int, new: int = 0) -> Corpus:
    """Writes the corpus where it is missing. Ten million take some minutes and three gigabytes."""
    corpus = Corpus(HOME / f"personas-{rows}-{new}", rows, new)
    if not corpus.folder.exists():
        begun = Corpus(corpus.folder.with_suffix(".begun"), rows, new)
        shutil.rmtree(begun.folder, ignore_errors=True)
        _write_corpus(begun)
        begun.folder.rename(corpus.folder)
    return corpus


def name_row(number: int, new: bool) -> str:
    return persona_id(page_id(NEW if new else STORED, number // ROWS_PER_FILE, number % ROWS_PER_FILE), 0)


def number_rows(row_ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The numbers of `name_row`, int64."""
    return np.fromiter(
        (int(name[-17:-11]) * ROWS_PER_FILE + int(name[-10:-3]) for name in row_ids.to_pylist()), np.int64, len(row_ids)
    )


def read_texts(corpus: Corpus) -> Iterator[str]:
    for path in corpus.lines:
        with path.open() as lines:
            for line in lines:
                yield json.loads(line)["persona"]


def make_texts() -> Iterator[str]:
    with gzip.open(find_personas() / "personahub.jsonl.gz", "rt") as lines:
        originals = [json.loads(line)["persona"].split() for line in lines]
    heads = [words[: len(words) // 2] for words in originals]
    tails = [words[len(words) // 2 :] for words in originals]
    chance = random.Random(7)
    earlier: list[list[str]] = []
    while True:
        if earlier and chance.random() < 0.1:
            words = _make_copy(chance.choice(earlier), tails, chance)
        else:
            words = chance.choice(heads) + chance.choice(tails)
        if len(earlier) < SOURCES:
            earlier.append(words)
        elif chance.random() < 0.1:
            earlier[chance.randrange(SOURCES)] = words
        yield " ".join(words)


def _make_copy(original: list[str], tails: list[list[str]], chance: random.Random) -> list[str]:
    words = list(original)
    kind = chance.randrange(4)
    if kind == 0:
        chance.shuffle(words)
    elif kind == 1:
        words[chance.randrange(len(words))] = chance.choice(chance.choice(tails) or ["x"])
    elif kind == 2:
        del words[chance.randrange(len(words))]
    else:
        words = [word.lower() for word in words]
    return words


def _write_corpus(corpus: Corpus) -> None:
    texts, actions, table = make_texts(), [], pa.table({})
    (corpus.folder / "lines").mkdir(parents=True)
    corpus.table.mkdir()
    for first, count in _divide(corpus):
        new, part = first >= corpus.rows - corpus.new, list(itertools.islice(texts, count))
        numbers = range(first, first + count)
        with (corpus.folder / "lines" / f"{first:08d}.jsonl").open("w") as out:
            out.writelines(json.dumps({"id": n, "persona": text}) + "\n" for n, text in zip(numbers, part, strict=True))
        columns = {
            "slice": [NEW if new else STORED] * count,
            "row_id": [name_row(number, new) for number in numbers],
            "text": part,
            "text_hash": [text_hash(text) for text in part],
        }
        table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        actions.append(write_file(corpus.table / f"{first:08d}.parquet", table))
    commit_files(corpus.table, table.schema, actions)


def _divide(corpus: Corpus) -> Iterator[tuple[int, int]]:
    """First number and count of each file: no file holds rows of both slices."""
    for begin, end in ((0, corpus.rows - corpus.new), (corpus.rows - corpus.new, corpus.rows)):
        for first in range(begin, end, ROWS_PER_FILE):
            yield first, min(ROWS_PER_FILE, end - first)


def write_file(path: Path, table: pa.Table) -> AddAction:
    pq.write_table(table, path, compression="zstd")
    bounds = {"slice": table["slice"][0].as_py()}
    stats = json.dumps({"numRecords": table.num_rows, "minValues": bounds, "maxValues": bounds})
    stored = path.stat()
    return AddAction(path.name, stored.st_size, {}, int(stored.st_mtime * 1000), True, stats)


def commit_files(table: Path, schema: pa.Schema, actions: list[AddAction]) -> None:
    """One version of a Delta table that holds just these files: rows lie as a crawl's do, 100,000 a file."""
    create_table_with_add_actions(str(table), Schema.from_arrow(schema), actions)
