"""The calibration of a cosine threshold, without a model: vectors are made to have the cosines that are wanted."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from local.calibrate import main
from local.calibration_page import escape_cell
from persona_hub.dedup.calibration import (
    STEPS,
    THRESHOLDS,
    Threshold,
    choose_best,
    choose_precise,
    correlate_ranks,
    find_near_pairs,
    judge_thresholds,
)
from persona_hub.dedup.scored_pairs import read_pairs
from persona_hub.errors import SettingsError
from persona_hub.settings import EmbeddingSettings

CSV = 'score,sentence1,sentence2\n5,"a, b","say ""c"""\n\n1.5,d,e\n'


def test_csv_with_a_header_in_any_order() -> None:
    pairs = read_pairs(CSV.splitlines(keepends=True))
    assert pairs.left == ["a, b", "d"]
    assert pairs.right == ['say "c"', "e"]
    assert pairs.scores.tolist() == [5.0, 1.5]


def test_the_files_of_sts_b(shared_data: Path) -> None:
    with (shared_data / "similarity" / "stsb_dev.csv").open(encoding="utf-8", newline="") as lines:
        pairs = read_pairs(lines)
    assert len(pairs.left) == len(pairs.right) == len(pairs.scores) == 1500
    assert pairs.left[0] == "A man with a hard hat is dancing."
    assert pairs.right[0] == "A man wearing a hard hat is dancing."
    assert (pairs.scores.min(), pairs.scores.max()) == (0.0, 5.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column sentence1, sentence2, score, but nothing"),
        ("sentence1,score\na,1\n", "has no column sentence2, but sentence1, score"),
        ("sentence1,sentence2,score\n", "The file of pairs holds none"),
        ("sentence1,sentence2,score\na,b,1\na,b,much\n", "Line 3 of the file of pairs has the score 'much'"),
        ("sentence1,sentence2,score\na,b,nan\n", "Line 2 of the file of pairs has the score 'nan'"),
        ("sentence1,sentence2,score\na,b\n", "Line 2 of the file of pairs has 2 fields"),
        ("g\tf\ty\tn\t5.0\ta\tb\ng\tf\ty\tn\t\ta\tb\n", "Line 2 of the file of pairs has the score ''"),
        (f"sentence1,sentence2,score\na,{'b' * 140_000},1\n", "Line 2 of the file of pairs is no CSV"),
    ],
)
def test_a_bad_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as raised:
        read_pairs(text.splitlines(keepends=True))
    assert raised.value.wanted and raised.value.cure


def test_thresholds_by_hand() -> None:
    # Cosines of what is the same: 0.95, 0.9, 0.6; of what is not: 0.92, 0.5, -1.
    judged = judge_thresholds(np.array([0.95, 0.92, 0.9, 0.6, 0.5, -1.0]), np.array([1, 0, 1, 1, 0, 0], bool))
    by_cosine = {row.cosine: row for row in judged}
    assert list(by_cosine) == list(THRESHOLDS)
    assert by_cosine[0.5] == Threshold(0.5, 5, 3 / 5, 1.0, 6 / 8)
    assert by_cosine[0.6] == Threshold(0.6, 4, 3 / 4, 1.0, 6 / 7)
    assert by_cosine[0.91] == Threshold(0.91, 2, 1 / 2, 1 / 3, 2 / 5)
    assert by_cosine[0.95] == Threshold(0.95, 1, 1.0, 1 / 3, 2 / 4)
    assert math.isnan(by_cosine[0.96].precision)
    assert by_cosine[0.96][3:] == (0.0, 0.0)
    assert choose_best(judged).cosine == 0.6
    # 0.93 to 0.95 have a precision of 1; from 0.51 to 0.60 it is 3/4, but 0.91 breaks it.
    assert choose_precise(judged) == by_cosine[0.93]
    assert choose_precise(judged, wanted=0.75) == by_cosine[0.93]
    assert choose_precise(judged, wanted=0.5) == by_cosine[0.5]


def test_no_precise_threshold() -> None:
    assert choose_precise(judge_thresholds(np.array([0.99, 0.6]), np.array([False, True]))) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=30))
def test_ranks_are_correlated_as_scipy_does(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs, np.float64).T
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert math.isnan(correlate_ranks(one, other))
    else:
        assert correlate_ranks(one, other) == pytest.approx(spearmanr(one, other).statistic)


@pytest.mark.parametrize("same", [[True, True], [False, False]])
def test_scores_of_one_side_are_refused(same: list[bool]) -> None:
    with pytest.raises(SettingsError, match=f"{sum(same)} of 2 pairs have the same meaning"):
        judge_thresholds(np.array([0.9, 0.8]), np.array(same))


def test_near_pairs_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(1)
    centers = rng.normal(size=(30, 16))
    vectors = centers[rng.integers(30, size=1_200)] + rng.normal(size=(1_200, 16)) * 0.4  # more than two blocks
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    products = unit.astype(np.float64) @ unit.astype(np.float64).T
    cosines = products[np.triu_indices(1_200, 1)]
    near = find_near_pairs(unit, at_most=10)
    assert [step.begin for step in near] == list(STEPS)
    for place, step in enumerate(near):
        end = STEPS[place + 1] if place + 1 < len(STEPS) else 2.0
        expected = int(((cosines >= step.begin) & (cosines < end)).sum())
        assert abs(step.found - expected) <= 2  # single precision at the steps' edges
        assert len(step.rows) == min(10, step.found)
        assert len({tuple(pair) for pair in step.rows.tolist()}) == len(step.rows)
        for (one, other), cosine in zip(step.rows.tolist(), step.cosines, strict=True):
            assert one < other
            assert cosine == pytest.approx(products[one, other], abs=1e-5)
            assert step.begin - 1e-5 <= cosine < end + 1e-5
    assert sum(step.found for step in near) > 1_000
    # The draw takes from everywhere, not from the first block only.
    assert max(pair[0] for step in near for pair in step.rows.tolist()) > 600


def test_equal_vectors_do_not_fill_the_memory() -> None:
    near = find_near_pairs(np.full((2_000, 4), 0.5, np.float32), at_most=10)
    assert [step.found for step in near] == [0] * 9 + [2_000 * 1_999 // 2]
    assert len(near[-1].rows) == 10


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a | b", r"a \| b"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("[link](javascript:x) `code` *b* _i_", r"\[link\](javascript:x) \`code\` \*b\* \_i\_"),
        ("one\r\n| two\x00\u2028three", r"one \| two three"),
        ("\u202eturned \ud800", "turned"),
        (" \n", "(empty)"),
        ("&lt;", "&amp;lt;"),
    ],
)
def test_hostile_text_in_a_cell(text: str, cell: str) -> None:
    assert escape_cell(text) == cell


@given(st.text(max_size=400) | st.text(alphabet="|\\<>\n`[]", max_size=30))
def test_a_cell_is_one_cell(text: str) -> None:
    cell = escape_cell(text)
    cell.encode()
    assert len(cell.splitlines()) == 1
    assert not set("<>") & set(cell)
    # Every pipe stands behind an odd number of backslashes.
    for place in (place for place, char in enumerate(cell) if char == "|"):
        before = cell[:place]
        assert (len(before) - len(before.rstrip("\\"))) % 2 == 1


def embed_by_angle(texts: Sequence[str], settings: EmbeddingSettings) -> NDArray[np.float32]:
    """Texts are angles in hundredths of a radian; what is none stands at 0."""
    angles = np.array([float(text) / 100 if text.isdigit() else 0.0 for text in texts])
    return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def write_pairs(folder: Path) -> Path:
    path = folder / "pairs.csv"
    path.write_text("sentence1,sentence2,score\n0,10,5\n0,20,4\n0,60,2\n0,90,0\n")
    return path


def test_the_tool_writes_a_table_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = tmp_path / "texts.jsonl.gz"
    with gzip.open(texts, "wt") as lines:
        lines.writelines(json.dumps({"text": text}) + "\n" for text in ("10", "10", "70", "<b>|x"))
    main(["--pairs", str(write_pairs(tmp_path)), "--texts", str(texts), "--column", "text", "--out", str(tmp_path / "new")], embed_by_angle)
    table = (tmp_path / "new" / "calibration.md").read_text()
    # cos 0.1 = 0.995, cos 0.2 = 0.980 are the same; cos 0.6 = 0.825, cos 0.9 = 0.622 are not.
    assert "4 scored pairs, 2 of them with the same meaning (score ≥ 4)" in table
    assert "Spearman correlation of cosine and score: 1.0000" in table
    assert "- Best F1 at 0.98: precision 1.000, recall 1.000, F1 1.000" in table
    assert "- Precision ≥ 0.9 from 0.83: precision 1.000, recall 1.000, F1 1.000" in table
    assert "| 0.82 | 3 | 0.667 | 1.000 | 0.800 |" in table
    # Three different texts: 10 and the unreadable one at cos 0.1, 10 and 70 at cos 0.6, 70 and the other at cos 0.7.
    assert "among 3 texts" in table
    assert "### 0.82 to 0.84: 1 pairs\n\n| cosine | one | other |\n| --- | --- | --- |\n| 0.825 | 10 | 70 |" in table
    assert r"| 0.995 | 10 | &lt;b&gt;\|x |" in table
    assert "### 0.80 to 0.82: 0 pairs\n\n###" in table
    assert (tmp_path / "new" / "calibration.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "11 of 11 texts embedded" in said
    assert "Best F1 at 0.98" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no text"),
        (b'{"persona": "a"}\n{"other": "b"}\n', "Line 2 of .* has no text 'persona'"),
        (b"[1]\n", "Line 1 of .* has no text 'persona'"),
        (b'{"persona": 7}\n', "Line 1 of .* has no text 'persona'"),
        (b"\xff\n", "Line 1 of .* has no text 'persona'"),
    ],
)
def test_bad_texts_end_the_tool(tmp_path: Path, content: bytes, message: str) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        main(["--pairs", str(write_pairs(tmp_path)), "--texts", str(texts), "--out", str(tmp_path / "new")], embed_by_angle)
    assert not (tmp_path / "new").exists()


def test_bad_files_end_the_tool(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"persona": "a"}\n' * 9)[:-9])
    latin = tmp_path / "latin.csv"
    latin.write_bytes(b"sentence1,sentence2,score\n\xe9,b,1\n")
    for arguments, message in (
        (["--pairs", str(write_pairs(tmp_path)), "--texts", str(broken)], "breaks off"),
        (["--pairs", str(write_pairs(tmp_path)), "--texts", str(latin.with_suffix(".gz"))], "No such file"),
        (["--pairs", str(latin)], "is not UTF-8"),
        (["--pairs", str(tmp_path / "none.csv")], "No such file"),
        (["--pairs", str(write_pairs(tmp_path)), "--same", "9"], "0 of 4 pairs have the same meaning"),
    ):
        with pytest.raises(SystemExit, match=message):
            main([*arguments, "--out", str(tmp_path / "new")], embed_by_angle)
