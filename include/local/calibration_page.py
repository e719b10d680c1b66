"""What a calibration found, as a page and a picture."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from local.report import clean_line
from persona_hub.dedup.calibration import (
    STEP,
    WANTED_PRECISION,
    NearPairs,
    Threshold,
    choose_best,
    choose_precise,
    correlate_ranks,
)

_SHOWN_CHARS = 240


class Found(NamedTuple):
    """Scores and cosines of n pairs (n,), what each threshold makes of them, and near pairs of other texts."""

    label: str  # of the embedding
    scores: NDArray[np.float64]
    cosines: NDArray[np.float64]
    same: float  # score from which a pair has the same meaning
    judged: Sequence[Threshold]
    near: Sequence[NearPairs]
    texts: Sequence[str]


def render_page(found: Found) -> str:
    """The page in Markdown; a text in it is text, whatever it holds."""
    best, precise = choose_best(found.judged), choose_precise(found.judged)
    same = int((found.scores >= found.same).sum())
    lines = [
        f"# Cosine thresholds of {escape_cell(found.label)}",
        "",
        f"{len(found.scores):,} scored pairs, {same:,} of them with the same meaning (score ≥ {found.same:g}); {datetime.now(UTC):%Y-%m-%d}.",
        "",
        f"- Spearman correlation of cosine and score: {correlate_ranks(found.cosines, found.scores):.4f}",
        f"- Best F1 at {_describe(best)}",
        f"- Precision ≥ {WANTED_PRECISION:g} from {_describe(precise)}"
        if precise
        else f"- No threshold has a precision ≥ {WANTED_PRECISION:g} that stays above it.",
        "",
        "![Precision, recall and F1 at each threshold; cosine and score of each pair](calibration.png)",
        "",
        "| cosine ≥ | pairs | precision | recall | F1 |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {row.cosine:.2f} | {row.found:,} | {row.precision:.3f} | {row.recall:.3f} | {row.f1:.3f} |" for row in found.judged),
    ]
    if found.near:
        lines += ["", f"## Pairs to look at, among {len(found.texts):,} texts"]
    for step in found.near:
        lines += ["", f"### {step.begin:.2f} to {step.begin + STEP:.2f}: {step.found:,} pairs"]
        if step.found:
            lines += ["", "| cosine | one | other |", "| --- | --- | --- |"]
        for place in np.argsort(step.cosines, kind="stable"):
            one, other = (escape_cell(found.texts[row]) for row in step.rows[place])
            lines.append(f"| {step.cosines[place]:.3f} | {one} | {other} |")
    return "\n".join(lines) + "\n"


def _describe(row: Threshold) -> str:
    return f"{row.cosine:.2f}: precision {row.precision:.3f}, recall {row.recall:.3f}, F1 {row.f1:.3f}"


def escape_cell(text: str) -> str:
    """A text as it can stand in a Markdown table: no markup, no HTML, one line, not endless."""
    shown = html.escape(clean_line(text[: 4 * _SHOWN_CHARS], _SHOWN_CHARS), quote=False)
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", shown) or "(empty)"


def draw_picture(found: Found, path: Path) -> None:
    """Writes a PNG: the thresholds' curves, and all pairs."""
    import matplotlib

    matplotlib.use("Agg")  # no screen
    from matplotlib import pyplot

    figure, (curves, cloud) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    at = [row.cosine for row in found.judged]
    curves.plot(at, [row.precision for row in found.judged], label="precision")
    curves.plot(at, [row.recall for row in found.judged], label="recall")
    curves.plot(at, [row.f1 for row in found.judged], label="F1")
    curves.axvline(choose_best(found.judged).cosine, color="grey", linestyle=":", label="best F1")
    curves.set_xlabel("cosine threshold")
    curves.set_title(found.label, parse_math=False)
    curves.legend()
    same = found.scores >= found.same
    cloud.scatter(found.cosines[same], found.scores[same], s=6, alpha=0.4, label=f"score ≥ {found.same:g}")
    cloud.scatter(found.cosines[~same], found.scores[~same], s=6, alpha=0.4, label=f"score < {found.same:g}")
    cloud.set_xlabel("cosine")
    cloud.set_ylabel("score by people")
    cloud.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
