"""Calibrates the cosine threshold for the embedding model that is set: `python -m local.calibrate --pairs FILE`.

Scored pairs say how well each threshold agrees with people; with --texts, real pairs at each cosine are there to be
looked at. Writes calibration.md and calibration.png. A score is about two sentences; whether two *personas* are one
is yours to say, from the pairs below.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from local.calibration_page import Found, draw_picture, render_page
from persona_hub.dedup.calibration import choose_best, find_near_pairs, judge_thresholds
from persona_hub.dedup.cosine import exact_cosines
from persona_hub.dedup.scored_pairs import ScoredPairs, read_pairs
from persona_hub.errors import HubError, SettingsError
from persona_hub.llm.embedder import embed_texts
from persona_hub.settings import EmbeddingSettings, load_settings

MOST_TEXTS = 20_000
SHOWN = 10  # pairs of each step
EMBEDDED_AT_ONCE = 2_000

Embed = Callable[[Sequence[str], EmbeddingSettings], NDArray[np.float32]]


def main(argv: Sequence[str] | None = None, embed: Embed = embed_texts) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m local.calibrate", description=__doc__, formatter_class=raw)
    parser.add_argument("--pairs", type=Path, required=True, help="CSV with sentence1, sentence2 and score, or a file of STS-B")
    parser.add_argument("--same", type=float, default=4.0, help="score from which two texts mean the same")
    parser.add_argument("--texts", type=Path, help="JSON lines, .gz or not, whose near pairs are to be looked at")
    parser.add_argument("--column", default="persona", help="of the texts")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of calibration.md and calibration.png")
    arguments = parser.parse_args(argv)
    settings = load_settings().embedding
    try:
        pairs = _read_scored(arguments.pairs)
        texts = _sample_texts(arguments.texts, arguments.column) if arguments.texts else []
        unit = _embed_all([*pairs.left, *pairs.right, *texts], settings, embed)
        count = len(pairs.scores)
        cosines = exact_cosines(unit[:count], unit[count : 2 * count])
        judged = judge_thresholds(cosines, pairs.scores >= arguments.same)
        near = find_near_pairs(unit[2 * count :], SHOWN) if texts else []
        arguments.out.mkdir(parents=True, exist_ok=True)
    except (HubError, OSError) as error:
        sys.exit(str(error))
    found = Found(settings.label, pairs.scores, cosines, arguments.same, judged, near, texts)
    (arguments.out / "calibration.md").write_text(render_page(found), "utf-8")
    draw_picture(found, arguments.out / "calibration.png")
    print(f"Best F1 at {choose_best(judged).cosine:.2f}; see {arguments.out / 'calibration.md'} and calibration.png")


def _read_scored(path: Path) -> ScoredPairs:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return read_pairs(lines)
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 ({error.reason})", wanted="a CSV file", cure="convert it") from error


def _sample_texts(path: Path, column: str) -> list[str]:
    """MOST_TEXTS different texts at most, every one as likely as the next (Vitter's algorithm R); the same each time."""
    rng, kept, seen = random.Random(0), list[str](), set[int]()  # noqa: S311
    for text in _read_texts(path, column):
        if (key := hash(text)) in seen:  # Python's, of 64 bits
            continue
        seen.add(key)
        if len(kept) < MOST_TEXTS:
            kept.append(text)
        elif (place := rng.randrange(len(seen))) < MOST_TEXTS:
            kept[place] = text
    if not kept:
        raise SettingsError(f"{path} holds no text", wanted="JSON lines", cure="give another file")
    return kept


def _read_texts(path: Path, column: str) -> Iterator[str]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        try:
            for number, line in enumerate(lines, 1):
                try:
                    value = json.loads(line)[column]
                except (ValueError, KeyError, TypeError, IndexError):
                    value = None
                if not isinstance(value, str):
                    raise SettingsError(
                        f"Line {number} of {path} has no text {column!r}",
                        wanted=f'an object a line, as in {{"{column}": "a text"}}',
                        cure="give --column, the name of the texts there",
                    )
                yield value
        except (EOFError, zlib.error) as error:
            raise SettingsError(f"{path} is broken or breaks off", wanted="a whole gzip file", cure="copy it anew") from error


def _embed_all(texts: list[str], settings: EmbeddingSettings, embed: Embed) -> NDArray[np.float32]:
    blocks = []
    for start in range(0, len(texts), EMBEDDED_AT_ONCE):
        blocks.append(embed(texts[start : start + EMBEDDED_AT_ONCE], settings))
        print(f"{min(start + EMBEDDED_AT_ONCE, len(texts)):,} of {len(texts):,} texts embedded", flush=True)
    return np.concatenate(blocks)


if __name__ == "__main__":
    main()
