"""The hub deduplicated anew: by other thresholds, without a slice, killed anywhere; and cells trained anew.

One lake is made slice by slice by the real jobs, and copied for each test; what a recomputation must give says a plain
reading of the survivor rule over all pairs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable
from persona_lake import PersonaLake
from plain_hub import unpack_signed
from pyspark.sql import functions as F

from persona_hub.core.keys import text_hash
from persona_hub.core.words import jaccard, word_set
from persona_hub.dedup.cells import count_cells
from persona_hub.dedup.cosine import exact_cosines, pack_vectors, unpack_vectors
from persona_hub.errors import LakeError, UnknownSlice
from persona_hub.settings import load_settings
from persona_hub.spark import cell_training, dedup, drop, embeddings, persona_dedup, recompute, references, signatures
from persona_hub.spark.job import Job
from persona_hub.spark.signatures import number_rows
from persona_hub.synthesis import registry
from persona_hub.tables import FIXED
from persona_hub.tables.gold import PERSONAS, task_table
from persona_hub.tables.ops import PUBLICATIONS, STAGE_COUNTS
from persona_hub.tables.silver import (
    COMPLETIONS,
    REFERENCES,
    REMOVALS,
    SURVIVORS,
    VECTOR_CELLS,
    VECTORS,
    WORD_KEYS,
)
from persona_hub.tables.small import read_rows

pytestmark = pytest.mark.timeout(1800)  # the lake that all of them copy is made in the first one's time
A, B, C, D = "S/00001", "S/00002", "S/00003", "S/00004"
OLD, NEW = (0.9, 0.9), (0.8, 0.8)
WORDS = ["baker", "nurse", "sailor", "judge", "pilot", "gardener", "teacher", "plumber", "violinist", "chemist", "farmer", "tailor"]
SIGNATURES = ("silver.word_keys", "silver.vector_cells", "silver.vectors", "silver.dedup_references")


def make_corpus() -> tuple[dict[str, list[str]], dict[str, list[float]]]:
    """Slice → texts, and a vector for each text: near each other in chains, at cosines around both thresholds."""
    rng, values = random.Random(8), np.random.default_rng(8)
    bases = [rng.sample(WORDS, 10) for _ in range(6)]
    vectors: dict[str, list[float]] = {}
    slices: dict[str, list[str]] = {}
    near = values.normal(0, 1, (10, 8))
    for key in (A, B, C):
        slices[key] = []
        for _ in range(12):
            words = rng.choice(bases).copy()
            for _ in range(rng.choice([0, 0, 1, 2, 3])):
                words[rng.randrange(10)] = rng.choice([*WORDS, "poet", "monk", "cook", "clerk"])
            slices[key].append(" ".join(words))
            vectors.setdefault(slices[key][-1], (near[rng.randrange(10)] + values.normal(0, 0.3, 8)).tolist())
    return slices, vectors


SLICES, VECTOR_OF = make_corpus()
SLICES[D] = SLICES[C][:5]


@dataclass(frozen=True)
class Expected:
    """By row id: publication of those that stay; survivor, stage and similarity of those that go."""

    kept: dict[str, int]
    gone: dict[str, tuple[str, str, float]]


def apply_rule(numbers: dict[str, int], thresholds: tuple[float, float]) -> Expected:
    """In rank order, every row against every row that was kept."""
    rows = [
        (number, text_hash(text), f"{key}/000000/{place:07d}/p0", text)
        for key, number in numbers.items() for place, text in enumerate(SLICES[key])
    ]  # fmt: skip
    rows.sort()
    texts = [row[3] for row in rows]
    stored = unpack_vectors(pack_vectors(np.array([VECTOR_OF[text] for text in texts], np.float32)), None)
    similar: dict[tuple[int, int], list[float]] = {}
    for a, b in combinations(range(len(rows)), 2):
        cosine = 1.0 if texts[a] == texts[b] else float(exact_cosines(stored[a : a + 1], stored[b : b + 1])[0])
        similar[a, b] = [jaccard(word_set(texts[a]), word_set(texts[b])), cosine]
    expected, kept = Expected({}, {}), []
    for place, (number, _, row_id, _) in enumerate(rows):
        found = [
            (step, other, value) for other in kept for step, value in enumerate(similar[other, place]) if value >= thresholds[step]
        ]
        if found:
            step, other, value = min(found)
            expected.gone[row_id] = (rows[other][2], ("dedup_words", "dedup_embeddings")[step], value)
        else:
            kept.append(place)
            expected.kept[row_id] = number
    return expected


def check_hub(lake: PersonaLake, expected: Expected) -> None:
    assert {row["persona_id"]: row["publication"] for row in lake.read_all(PERSONAS)} == expected.kept
    gone = {row["row_id"]: (row["survivor_id"], row["stage"], row["similarity"]) for row in lake.read_all(REMOVALS)}
    assert gone == {row: (other, stage, pytest.approx(value, abs=1e-9)) for row, (other, stage, value) in expected.gone.items()}
    assert {row["persona_id"] for row in lake.read_all(SURVIVORS)} == set(expected.kept)


@dataclass(frozen=True)
class State:
    """What must be the same, byte for byte, however it came about."""

    hub: list[dict[str, Any]]
    removals: list[dict[str, Any]]
    survivors: list[dict[str, Any]]
    vectors: list[dict[str, Any]]


def read_state(lake: PersonaLake) -> State:
    check_signed(lake)
    return State(
        lake.read_all(PERSONAS), lake.read_all(REMOVALS, "run_id"), lake.read_all(SURVIVORS, "hub_publication"), lake.read_all(VECTORS)
    )


def check_signed(lake: PersonaLake) -> None:
    """Each row of the hub can be compared with. Signatures of rows that went may be there too: they are only added to."""
    rows = [(row["persona_id"], row["text_hash"]) for row in lake.read_all(PERSONAS)]
    frame = lake.spark.createDataFrame(rows, "row_id STRING, text_hash STRING")
    wanted = {(row["row"], row["text_number"]) for row in number_rows(frame).collect()}
    for table in (WORD_KEYS, VECTOR_CELLS):
        signed = [(row["row"], row["text"]) for row in unpack_signed(lake.read_all(table))]
        assert wanted <= set(signed), table.name
        assert len(signed) == len(set(signed)), table.name


def read_versions(lake: PersonaLake) -> dict[str, int]:
    tables = [table for table in FIXED if table.name not in SIGNATURES and DeltaTable.is_deltatable(table.path(lake.lake))]
    return {table.name: DeltaTable(table.path(lake.lake)).version() for table in tables}


def to_settings(thresholds: tuple[float, float]) -> dict[str, Any]:
    return {"dedup__words": thresholds[0], "dedup__cosine": thresholds[1]}


def run_recompute(lake: PersonaLake, **options: Any) -> None:
    lake.load("recompute_hub").recompute_hub(lake.job("all", run_id="recomputed"), **options)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, spark, load_job_file: Callable[[str], ModuleType]) -> PersonaLake:
    """Two slices, by the old thresholds, one after the other."""
    home = tmp_path_factory.mktemp("published")

    def make_job(slice_key: str, data_type: str = "", run_id: str = "run 1", **changes: Any) -> Job:
        given = {f"PERSONA_HUB_{name.upper()}": str(value) for name, value in changes.items()}
        return Job("test", slice_key, run_id, 1, data_type, load_settings(given), spark)

    lake = PersonaLake(make_job, load_job_file, VECTOR_OF, home=home, **to_settings(OLD))
    for key in (A, B):
        lake.add(key, *SLICES[key])
    return lake


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a vector was computed anew")

    monkeypatch.setattr(embeddings, "_embed", refuse)


def test_other_thresholds_and_back(published: PersonaLake, tmp_path: Path) -> None:
    before = apply_rule({A: 1, B: 2}, OLD)
    check_hub(published, before)
    after = apply_rule({A: 1, B: 2}, NEW)
    assert before.kept.keys() - after.kept.keys() and after.kept.keys() - before.kept.keys(), "some go, some come"
    assert {stage for _, stage, _ in after.gone.values()} == {"dedup_words", "dedup_embeddings"}

    lake = published.copy(tmp_path / "lake", **to_settings(NEW))
    versions = read_versions(lake)
    run_recompute(lake, dry_run=True)
    assert read_versions(lake) == versions
    run_recompute(lake)
    check_hub(lake, after)
    assert DeltaTable(VECTORS.path(lake.lake)).version() == DeltaTable(VECTORS.path(published.lake)).version()
    assert not lake.read_all(COMPLETIONS)
    entries = [(row["publication"], row["slice"], row["rows"]) for row in read_rows(lake.lake, PUBLICATIONS)]
    counts = [sum(row.startswith(key) for row in after.kept) for key in (A, B)]
    assert sorted(entries)[2:] == [(3, A, counts[0]), (4, B, counts[1])]

    # Nothing is known of the old thresholds any more; the nights go on by the new ones, as if they had always been.
    lake.add(C, *SLICES[C])
    check_hub(lake, apply_rule({A: 1, B: 2, C: 5}, NEW))

    # A job that still has the old ones is refused.
    lake.settings |= to_settings(OLD)
    with pytest.raises(LakeError, match=r"slice S/00001 was deduplicated by .*jaccard 0\.8 .*this run would by .*jaccard 0\.9 "):
        lake.deduplicate(C)

    # And back, without the third: byte for byte what slice by slice gave.
    run_recompute(lake, drop=C)
    assert read_state(lake) == read_state(published)
    lake.add(D, *SLICES[D])  # what the dropped slice was deduplicated by hinders nobody
    check_hub(lake, apply_rule({A: 1, B: 2, D: 9}, OLD))


def test_keys_that_need_an_order_of_words(published: PersonaLake, tmp_path: Path) -> None:
    """Below 0.8 words are found by prefixes."""
    thresholds = (0.6, 0.95)
    lake = published.copy(tmp_path / "lake", **to_settings(thresholds))
    run_recompute(lake)
    check_hub(lake, apply_rule({A: 1, B: 2}, thresholds))
    lake.add(C, *SLICES[C])
    check_hub(lake, apply_rule({A: 1, B: 2, C: 5}, thresholds))


def test_a_dropped_slice_has_never_been(published: PersonaLake, tmp_path: Path) -> None:
    lake = published.copy(tmp_path / "lake")
    lake.write_candidates(C, *SLICES[C])
    lake.deduplicate(C)
    with pytest.raises(UnknownSlice, match="S/00009 is not known"):
        run_recompute(lake, drop="S/00009")
    run_recompute(lake, drop=A)
    expected = apply_rule({B: 2}, OLD)
    assert expected.kept.keys() - apply_rule({A: 1, B: 2}, OLD).kept.keys(), "nothing comes back: the test is empty"
    assert {row["persona_id"]: row["publication"] for row in lake.read_all(PERSONAS)} == expected.kept
    for table in [*FIXED, *map(task_table, registry.names())]:
        if "slice" in table.column_names and table not in (COMPLETIONS, STAGE_COUNTS, PUBLICATIONS):
            assert A not in {row["slice"] for row in lake.read_all(table)}, table.name
    # What was deduplicated against it does not know who came back, under old numbers.
    lake.publish(C)  # so it is deduplicated once more
    check_hub(lake, apply_rule({B: 2, C: 5}, OLD))
    run_recompute(lake, drop=B)
    run_recompute(lake, drop=C)
    assert (lake.read_all(PERSONAS), lake.read_all(SURVIVORS), lake.read_all(REMOVALS)) == ([], [], [])


def test_a_slice_that_is_only_run_again_keeps_its_rank(published: PersonaLake, tmp_path: Path) -> None:
    """Else those of its rows that others have not removed would now rank after theirs."""
    lake = published.copy(tmp_path / "lake")
    lake.deduplicate(A)
    lake.publish(A)  # as number 3; a row that goes may now go for one of B's, which is published
    run_recompute(lake)
    assert read_state(lake) == read_state(published)
    lake.write_candidates(A, *SLICES[A][:-1])
    with pytest.raises(LakeError, match="S/00001 has other candidates than it was published with"):
        run_recompute(lake)


class Killed(Exception):
    """Stands for a driver's end."""


@pytest.fixture
def kill_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Lets so many commits pass, then raises in place of the next."""
    left = [10**6]

    def guard(write: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return write(*args, **kwargs)

        return guarded

    writers = [
        (signatures, "append_rows"), (recompute, "replace_rows"), (recompute, "merge_slice"), (recompute, "merge_rows"),
        (recompute, "delete_rows"), (drop, "delete_rows"),
    ]  # fmt: skip
    for module, name in writers:
        monkeypatch.setattr(module, name, guard(getattr(module, name)))
    yield lambda commits: left.__setitem__(0, commits)


COMMITS = 9  # two of signatures; removals, survivors, hub, publications; two of old signatures; the first of the drop


def test_killed_between_any_two_commits(published: PersonaLake, tmp_path: Path, kill_before: Callable[[int], None]) -> None:
    whole = published.copy(tmp_path / "whole", **to_settings(NEW))
    run_recompute(whole, drop=A)
    check_hub(whole, apply_rule({B: 2}, NEW))
    expected = read_state(whole)
    for commits in range(COMMITS):
        lake = published.copy(tmp_path / str(commits), **to_settings(NEW))
        kill_before(commits)
        with pytest.raises(Killed):
            run_recompute(lake, drop=A)
        kill_before(10**6)
        run_recompute(lake, drop=A)
        assert read_state(lake) == expected, f"killed after {commits} commits"


def test_a_publication_amid_a_recomputation_is_refused(
    published: PersonaLake, tmp_path: Path, kill_before: Callable[[int], None]
) -> None:
    lake = published.copy(tmp_path / "lake", **to_settings(NEW))
    kill_before(4)  # removals and survivors are new, the hub is not
    with pytest.raises(Killed):
        run_recompute(lake)
    with pytest.raises(LakeError, match=r"slice S/00001 was deduplicated by .*jaccard 0\.9 .*run recompute_hub"):
        lake.publish(B)
    kept = lake.settings | to_settings(OLD)
    lake.settings = kept
    with pytest.raises(LakeError, match=r"survivors of S/00002 were compared by .*jaccard 0\.8 .*publication would by .*jaccard 0\.9 "):
        lake.publish(B)


def test_cells_trained_anew(published: PersonaLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "CELL_ROWS", 12)
    monkeypatch.setattr(references, "ONE_CELL_ROWS", 5)
    monkeypatch.setattr(cell_training, "CELL_ROWS", 12)
    monkeypatch.setattr(cell_training, "ONE_CELL_ROWS", 5)
    lake = published.copy(tmp_path / "lake", dedup__probes=64)  # all cells: so that what is found does not depend on them
    for key in (C, D):
        lake.write_candidates(key, *SLICES[key])
    job = lake.load("train_cells")

    def read_cells() -> set[int]:
        return {row["cells_version"] for row in lake.read_all(VECTOR_CELLS)}

    with monkeypatch.context() as killing:
        killing.setattr(cell_training, "write_reference", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            job.train_cells_anew(lake.job("all"))
    assert (read_cells(), lake.read_all(REFERENCES)) == ({0, 1}, [])
    for key in (C, D):  # side by side, by the old ones, which are in force
        lake.deduplicate(key)
    job.train_cells_anew(lake.job("all"))
    assert [row["version"] for row in lake.read_all(REFERENCES)] == [1]
    by_version = {version: sum(row["rows"] for row in lake.read_all(VECTOR_CELLS) if row["cells_version"] == version) for version in (0, 1)}
    assert by_version[1] == len(lake.read_all(VECTORS))
    version = DeltaTable(VECTOR_CELLS.path(lake.lake)).version()
    job.train_cells_anew(lake.job("all"))  # not due
    assert DeltaTable(VECTOR_CELLS.path(lake.lake)).version() == version
    for key in (C, D):  # in cells that were trained since
        lake.publish(key)
    expected = apply_rule({A: 1, B: 2, C: 3, D: 4}, OLD)
    assert {row["persona_id"]: row["publication"] for row in lake.read_all(PERSONAS)} == expected.kept
    assert {row["row_id"] for row in lake.read_all(REMOVALS)} == expected.gone.keys()
    assert any(row["stage"] == "publish_personas" for row in lake.read_all(REMOVALS) if row["slice"] == D)
    job.train_cells_anew(lake.job("all"), force=True)
    assert [row["version"] for row in lake.read_all(REFERENCES)] == [1, 2]
    assert read_cells() == {1, 2}


def test_cells_that_a_slice_trains_hold_all_that_is_published(
    published: PersonaLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own rows, too: from the training on others compare by these cells, and it may be killed."""
    monkeypatch.setattr(references, "CELL_ROWS", 12)
    monkeypatch.setattr(dedup, "ONE_CELL_ROWS", 5)
    lake = published.copy(tmp_path / "lake")
    job = lake.load("deduplicate_personas")
    with monkeypatch.context() as killing:
        killing.setattr(persona_dedup, "deduplicate", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            job.deduplicate_personas(lake.job(A))
    rows = [(row["persona_id"],) for row in lake.read_all(PERSONAS)]
    wanted = {row[0] for row in lake.spark.createDataFrame(rows, "row_id STRING").select(F.xxhash64("row_id")).collect()}
    signed = [row["row"] for row in unpack_signed(lake.read_all(VECTOR_CELLS)) if row["cells_version"] == 1]
    assert wanted <= set(signed)
    lake.deduplicate(A)
    signed = [row["row"] for row in unpack_signed(lake.read_all(VECTOR_CELLS)) if row["cells_version"] == 1]
    assert wanted <= set(signed) and len(signed) == len(set(signed))


def test_when_cells_are_due() -> None:
    step = cell_training.CellStep("s", "r", 0.9, "m", None, 0, 3)
    trained = cell_training.CellStep("s", "r", 0.9, "m", np.zeros((10, 4), np.float32), 1, 3)
    longest = cell_training.ONE_CELL_ROWS
    assert not cell_training.is_due({"rows": longest, "largest": longest, "mean": longest}, step)
    assert cell_training.is_due({"rows": longest + 1, "largest": longest + 1, "mean": longest + 1}, step)
    cells = cell_training.LONGER * len(trained.centroids)
    rows = next(rows for rows in range(1, 10**6) if count_cells(rows, cell_training.CELL_ROWS) > cells)
    assert not cell_training.is_due({"rows": rows - 1, "largest": rows / 10, "mean": rows / 10}, trained)
    assert cell_training.is_due({"rows": rows, "largest": rows / 10, "mean": rows / 10}, trained)
    uneven = cell_training.UNEVEN * cell_training.CELL_ROWS
    assert not cell_training.is_due({"rows": 10_000, "largest": uneven, "mean": 1_000}, trained)
    assert cell_training.is_due({"rows": 10_000, "largest": uneven + 1, "mean": 1_000}, trained)
