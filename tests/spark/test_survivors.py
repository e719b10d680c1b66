"""The survivor rule over DataFrames: on the driver, in Spark, and half here half there, all against the definition."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, product

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from persona_hub.spark import survivors

Row = tuple[int | None, str, str, bool]  # publication, hash of the text, id, stored
Removals = dict[str, tuple[str, int, float]]  # id → survivor's id, step, similarity
Choose = Callable[[DataFrame, DataFrame, DataFrame], DataFrame]


@dataclass
class Case:
    """Rows by id, groups by (step, representative), edges by (step, a, b)."""

    rows: dict[str, Row] = field(default_factory=dict)
    groups: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    edges: dict[tuple[int, str, str], float] = field(default_factory=dict)

    def make_frames(self, spark: SparkSession, seed: int) -> tuple[DataFrame, DataFrame, DataFrame]:
        rng = random.Random(seed)
        numbers = {row: rng.randrange(-(2**63), 2**63) for row in self.rows}
        rows = [(numbers[row], *values) for row, values in self.rows.items()]
        groups = [(step, numbers[row], numbers[one]) for (step, one), members in self.groups.items() for row in members]
        edges = [(step, numbers[a], numbers[b], similarity) for (step, a, b), similarity in self.edges.items()]
        for listed in (rows, groups, edges):
            rng.shuffle(listed)
        return (
            spark.createDataFrame(
                rows, "row BIGINT, publication BIGINT, text_hash STRING, row_id STRING, is_stored BOOLEAN"
            ).localCheckpoint(),
            spark.createDataFrame(groups, "step INT, row BIGINT, representative BIGINT").localCheckpoint(),
            spark.createDataFrame(edges, "step INT, a BIGINT, b BIGINT, similarity DOUBLE").localCheckpoint(),
        )

    def choose_one_by_one(self) -> Removals:
        """The definition, in rank order over every pair of members."""
        similar: dict[frozenset[str], dict[int, float]] = {}
        members = {one: {*rows, one[1]} for one, rows in self.groups.items()}
        for (step, _), rows in members.items():
            for pair in combinations(rows, 2):
                similar.setdefault(frozenset(pair), {})[step] = 1.0
        for (step, a, b), similarity in self.edges.items():
            for pair in product(members.get((step, a), {a}), members.get((step, b), {b})):
                similar.setdefault(frozenset(pair), {})[step] = similarity
        kept: list[str] = []
        removals: Removals = {}
        for row in sorted(self.rows, key=self.rank):
            found = [
                (step, place, similarity)
                for place, other in enumerate(kept)
                for step, similarity in similar.get(frozenset((row, other)), {}).items()
            ]
            if found and not self.rows[row][3]:
                step, place, similarity = min(found)
                removals[row] = (kept[place], step, similarity)
            else:
                kept.append(row)
        return removals

    def rank(self, row: str) -> tuple[bool, int, str, str]:
        publication, text_hash, row_id, _ = self.rows[row]
        return publication is None, publication or 0, text_hash, row_id

    def add(self, other: Case) -> None:
        self.rows |= other.rows
        self.groups |= other.groups
        self.edges |= other.edges


def make_case(seed: int, count: int = 12) -> Case:
    """Cliques, edges between them, three steps, stored rows; few hashes, so that ids decide, and ids of all planes."""
    rng = random.Random(seed)
    names = [f"{rng.choice(['p/1', 'z', 'é', '～', '𝔸'])}/{seed}/{place}" for place in range(count)]
    case = Case()
    for name in names:
        publication = rng.choice([None, None, None, 1, 2, 10])
        is_stored = publication is not None and rng.random() < 0.6
        case.rows[name] = (publication, f"{rng.randrange(6):032x}", name, is_stored)
    for step in range(3):
        ends, left = [], rng.sample(names, count)
        while left:
            size = rng.choice([1, 1, 1, 2, 3, 5])
            members, left = left[:size], left[size:]
            ends.append(members[0])
            if len(members) > 1:
                case.groups[step, members[0]] = members[rng.randrange(2) :]  # with its representative, or without
        for a, b in combinations(ends, 2):
            if rng.random() < 0.2:
                case.edges[(step, a, b) if rng.random() < 0.5 else (step, b, a)] = round(rng.uniform(0.9, 1), 9)
    return case


def collect(removals: DataFrame, row_of: DataFrame) -> Removals:
    assert removals.dtypes == [
        ("row", "bigint"), ("row_id", "string"), ("survivor_id", "string"), ("step", "int"), ("similarity", "double")
    ]  # fmt: skip
    rows = removals.collect()
    numbers = {row["row_id"]: row["row"] for row in row_of.select("row", "row_id").collect()}
    assert all(row["row"] == numbers[row["row_id"]] for row in rows)
    found = {row["row_id"]: (row["survivor_id"], row["step"], row["similarity"]) for row in rows}
    assert len(found) == len(rows)  # no row goes twice
    return found


@pytest.fixture(params=["driver", "rounds", "rounds, then driver"])
def choose(request: pytest.FixtureRequest) -> Choose:
    if request.param == "driver":
        return survivors.choose_on_driver
    return partial(survivors.choose_in_spark, few=0 if request.param == "rounds" else 1_000)


def test_as_the_definition_says(spark: SparkSession, choose: Choose) -> None:
    case = Case()
    for seed in range(60):
        case.add(make_case(seed))
    case.add(make_case(60, 150))
    expected = case.choose_one_by_one()
    assert {step for _, step, _ in expected.values()} == {0, 1, 2}
    assert len(expected) > 300
    frames = case.make_frames(spark, seed=1)
    assert collect(choose(*frames), frames[0]) == expected


def test_by_hand(spark: SparkSession, choose: Choose) -> None:
    case, expected = Case(), {}

    def add(rows: dict[str, int | None], stored: str = "", **more: dict) -> None:
        case.add(Case({row: (number, row[-1], row, row in stored.split()) for row, number in rows.items()}, **more))

    # 1a ~ 1b ~ 1c: 1b goes, and 1c, like 1b alone, stays.
    add(dict.fromkeys(["1a", "1b", "1c"]), edges={(0, "1b", "1c"): 0.9, (0, "1a", "1b"): 0.95})
    expected["1b"] = ("1a", 0, 0.95)
    # Publication goes before the hash, and 9 before 10.
    add({"2a": None, "2z": 3}, "2z", edges={(0, "2a", "2z"): 1.0})
    expected["2a"] = ("2z", 0, 1.0)
    add({"3a": 10, "3z": 9}, "3z", edges={(1, "3a", "3z"): 0.9})
    expected["3a"] = ("3z", 1, 0.9)
    # A slice run again: its row is published as number 1, the stored one came with number 2. Neither goes.
    add({"4a": 1, "4b": 2}, "4b", edges={(0, "4a", "4b"): 1.0})
    # Both stored: neither goes, and both may remove.
    add({"5x": 1, "5y": 2, "5n": None}, "5x 5y", edges={(0, "5x", "5y"): 0.99, (0, "5n", "5y"): 0.9})
    expected["5n"] = ("5y", 0, 0.9)
    # Words before vectors, then the best rank.
    add(
        dict.fromkeys(["6a", "6b", "6c", "6d"]),
        edges={(1, "6a", "6d"): 0.99, (0, "6d", "6c"): 0.97, (0, "6d", "6b"): 0.91},
    )
    expected["6d"] = ("6b", 0, 0.91)
    # One text: the id decides, by its bytes ("～" is U+FF5E, which UTF-16 puts after "𝔸").
    case.add(Case({row: (None, "same", row, False) for row in ("7𝔸", "7～")}, {(0, "7𝔸"): ["7～"]}))
    expected["7𝔸"] = ("7～", 0, 1.0)
    # What the stored row removes removes nothing.
    add({"8a": 1, "8b": None, "8c": None}, "8a", edges={(0, "8b", "8a"): 0.9, (1, "8b", "8c"): 0.9})
    expected["8b"] = ("8a", 0, 0.9)

    assert case.choose_one_by_one() == expected
    frames = case.make_frames(spark, seed=2)
    assert collect(choose(*frames), frames[0]) == expected


def test_nothing_similar(spark: SparkSession, choose: Choose) -> None:
    frames = Case().make_frames(spark, seed=3)
    assert collect(choose(*frames), frames[0]) == {}
    frames = Case({"a": (None, "x", "a", False), "b": (1, "x", "b", True)}).make_frames(spark, seed=3)
    assert collect(choose(*frames), frames[0]) == {}


def test_a_row_that_is_not_given_is_no_silent_loss(spark: SparkSession, choose: Choose) -> None:
    rows, groups, edges = Case(
        {row: (None, row, row, False) for row in "abc"}, {(0, "a"): ["b"]}, {(0, "a", "c"): 0.9}
    ).make_frames(spark, seed=4)
    for missing in "abc":
        with pytest.raises(Exception, match="names a row that is not among the rows"):
            choose(rows.where(F.col("row_id") != missing), groups, edges).collect()


def test_a_long_chain_in_rank_order_and_a_clique(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    # Rounds alone would be 5,000 for the chain; the clique's pairs would be 2 × 10^10.
    chain, clique = 10_000, 200_000
    first = F.xxhash64(F.lit("clique"), F.lit(0))
    rows = spark.range(chain).select(F.xxhash64("id").alias("row"), F.format_string("chain %05d", "id").alias("row_id"))
    number = F.xxhash64(F.lit("clique"), F.col("id").cast("int"))
    members = spark.range(clique).select(number.alias("row"), F.format_string("row %06d", "id").alias("row_id"))
    rows = rows.unionByName(members).selectExpr(
        "row", "CAST(NULL AS BIGINT) AS publication", "'same' AS text_hash", "row_id", "false AS is_stored"
    )
    groups = members.select(F.lit(0).alias("step"), "row", first.alias("representative"))
    edges = spark.range(chain - 1).select(
        F.lit(1).alias("step"),
        F.xxhash64("id").alias("a"),
        F.xxhash64(F.col("id") + 1).alias("b"),
        F.lit(0.9).alias("similarity"),
    )
    frames = (rows.localCheckpoint(), groups.localCheckpoint(), edges.localCheckpoint())
    monkeypatch.setattr(survivors, "MAX_PAIRS_ON_DRIVER", 25_000)
    started = time.monotonic()
    removals = survivors.choose_survivors(*frames).localCheckpoint()
    assert time.monotonic() - started < 120
    assert removals.where("step = 0 AND survivor_id = 'row 000000' AND similarity = 1").count() == clique - 1
    gone = removals.where("step = 1").orderBy("row_id").collect()
    assert [row["row_id"] for row in gone] == [f"chain {place:05}" for place in range(1, chain, 2)]
    assert [row["survivor_id"] for row in gone] == [f"chain {place:05}" for place in range(0, chain, 2)]


def test_the_way_is_taken_by_size(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = make_case(5).make_frames(spark, seed=5)
    size = frames[1].count() + frames[2].count()
    monkeypatch.setattr(survivors, "choose_on_driver", lambda *_: "driver")
    monkeypatch.setattr(survivors, "choose_in_spark", lambda *_: "spark")
    for most, way in ((size, "driver"), (size - 1, "spark")):
        monkeypatch.setattr(survivors, "MAX_PAIRS_ON_DRIVER", most)
        assert survivors.choose_survivors(*frames) == way
