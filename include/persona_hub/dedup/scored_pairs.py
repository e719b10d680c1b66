"""Pairs of texts that people have scored, as they are published."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from persona_hub.errors import SettingsError

_COLUMNS = ("sentence1", "sentence2", "score")
_STS_BENCHMARK = {"sentence1": 5, "sentence2": 6, "score": 4}  # of genre, file, year, id, score, sentences, sources


class ScoredPairs(NamedTuple):
    """Pairs of texts, (n,) each, with what people think of their likeness."""

    left: list[str]
    right: list[str]
    scores: NDArray[np.float64]


def read_pairs(lines: Iterable[str]) -> ScoredPairs:
    """Reads CSV with a header (sentence1, sentence2, score), or the tab-separated lines of STS-B, which has none.

    Raises:
        SettingsError: no such columns, no number for a score, no pair at all; says the line.
    """
    rest = iter(lines)
    first = next(rest, "")
    if first.count("\t") >= max(_STS_BENCHMARK.values()):
        reader = csv.reader(chain([first], rest), delimiter="\t", quoting=csv.QUOTE_NONE)
        places = _STS_BENCHMARK
    else:
        reader = csv.reader(chain([first], rest))
        places = _find_columns([name.strip().lower() for name in next(reader, [])])
    left, right, scores = [], [], []
    try:
        for fields in filter(None, reader):
            left.append(_read_field(fields, places["sentence1"], reader.line_num))
            right.append(_read_field(fields, places["sentence2"], reader.line_num))
            scores.append(_read_score(_read_field(fields, places["score"], reader.line_num), reader.line_num))
    except csv.Error as error:
        raise _bad_line(reader.line_num, f"is no CSV: {error}", "fields of 131,072 characters at most") from error
    if not scores:
        raise SettingsError("The file of pairs holds none", wanted="scored pairs", cure="give another file")
    return ScoredPairs(left, right, np.array(scores))


def _find_columns(header: list[str]) -> dict[str, int]:
    if missing := [name for name in _COLUMNS if name not in header]:
        raise SettingsError(
            f"The file of pairs has no column {', '.join(missing)}, but {', '.join(header)[:200] or 'nothing'}",
            wanted="CSV with the columns sentence1, sentence2 and score, or STS-B's own files",
            cure="name the columns in its first line",
        )
    return {name: header.index(name) for name in _COLUMNS}


def _read_field(fields: list[str], place: int, line: int) -> str:
    if place >= len(fields):
        raise _bad_line(line, f"has {len(fields)} fields", f"at least {place + 1}")
    return fields[place]


def _read_score(field: str, line: int) -> float:
    try:
        score = float(field)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise _bad_line(line, f"has the score {field[:40]!r}", "a number")
    return score


def _bad_line(line: int, found: str, wanted: str) -> SettingsError:
    return SettingsError(f"Line {line} of the file of pairs {found}", wanted=wanted, cure="correct it, or drop the line")
