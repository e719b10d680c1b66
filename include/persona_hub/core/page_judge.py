"""All page rules in their order, over a batch of pages at once.

`empty`, `blocked_host`, `too_short`, `language`, `navigation`, `boilerplate`, `symbols`, `repetition`: the first that
refuses a page is its reason. What counts characters and words is counted for the whole batch (`core.page_stats`);
cheap rules come first, and runs of words are looked at only where no other rule has refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from resiliparse.parse.lang import detect_fast

from persona_hub.core.filters import check_boilerplate, check_navigation, check_symbols, cut_text
from persona_hub.core.hosts import find_domain, find_host, is_blocked
from persona_hub.core.page_stats import measure_pages
from persona_hub.core.repetition import check_repetition
from persona_hub.core.text import normalize_whitespace
from persona_hub.core.verdict import Rejection
from persona_hub.settings import CrawlSettings

ANY_RANK = 1 << 30
"""Above every rank that the detector knows: it always names its nearest language, the rule judges the rank."""

MAX_UNSPACED_SHARE = 0.1
"""Share of a text in scripts without spaces above which its runs between spaces are no words."""

# Characters that are counted at once: the arrays over them stay in a core's cache.
_CHUNK = 1 << 17


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of one page; language and rank are None where an earlier rule refused it, the domain where any did."""

    text: str
    """Normalized, cut at `max_chars`."""
    truncated: bool
    domain: str | None = None
    language: str | None = None
    language_rank: int | None = None
    refusal: Rejection | None = None


class PageJudge:
    """The page rules with their thresholds."""

    def __init__(self, settings: CrawlSettings, blocked: frozenset[str]) -> None:
        """Takes the settings and the hosts of `core.hosts.read_blocked_hosts`."""
        self._settings, self._rules, self._blocked = settings, settings.rules, blocked

    def judge(self, texts: Sequence[str], urls: Sequence[str]) -> list[Verdict]:
        """Judges pages; what one page is told depends on no other.

        Args:
            texts: as they were read.
            urls: one for each text.

        Returns:
            One verdict per page, in their order.
        """
        cut = [cut_text(normalize_whitespace(text), self._settings.max_chars) for text in texts]
        refusals = {
            number: refusal
            for number, ((text, _), url) in enumerate(zip(cut, urls, strict=True))
            if (refusal := self._check_host(text, url))
        }
        languages: dict[int, tuple[str, int]] = {}
        left = [number for number in range(len(cut)) if number not in refusals]
        for chunk in _cut_chunks([len(text) for text, _ in cut], left):
            judged = self._judge_chunk([cut[number][0] for number in chunk])
            for number, (detected, refusal) in zip(chunk, judged, strict=True):
                if detected:
                    languages[number] = detected
                if refusal:
                    refusals[number] = refusal
        verdicts = []
        for number, ((text, truncated), url) in enumerate(zip(cut, urls, strict=True)):
            language, rank = languages.get(number) or (None, None)
            refusal = refusals.get(number)
            domain = None if refusal else find_domain(url)
            verdicts.append(Verdict(text, truncated, domain, language, rank, refusal))
        return verdicts

    def _check_host(self, text: str, url: str) -> Rejection | None:
        if not text:
            return Rejection("empty")
        if self._blocked and is_blocked(host := find_host(url), self._blocked):
            return Rejection("blocked_host", host)
        return None

    def _judge_chunk(self, texts: list[str]) -> Iterator[tuple[tuple[str, int] | None, Rejection | None]]:
        stats = measure_pages(texts)
        worded = stats.unspaced <= MAX_UNSPACED_SHARE * stats.weights
        languages: list[tuple[str, int] | None] = [None] * len(texts)
        refusals: list[Rejection | None] = []
        for page, (text, weight) in enumerate(zip(texts, stats.weights.tolist(), strict=True)):
            if weight < self._settings.min_chars:
                refusals.append(Rejection("too_short", f"{weight} of {self._settings.min_chars} characters"))
                continue
            languages[page] = language = detect_fast(text, cutoff=ANY_RANK)
            refusals.append(
                self._check_language(*language)
                or check_navigation(text, stats, page, self._rules.min_prose_share)
                or check_boilerplate(text, stats, page, self._settings)
            )
        judged = np.array([refusal is None for refusal in refusals])
        english = np.array([self._is_english(language) for language in languages])
        later = check_symbols(texts, stats, judged, worded, english, self._rules)
        judged[list(later)] = False
        later |= check_repetition(stats, judged, worded, self._rules)
        return zip(languages, (refusal or later.get(page) for page, refusal in enumerate(refusals)), strict=True)

    def _is_english(self, language: tuple[str, int] | None) -> bool:
        return language is not None and language[0] == "en" and language[1] <= self._rules.max_language_rank

    def _check_language(self, language: str, rank: int) -> Rejection | None:
        if not self._rules.languages:
            return None
        if rank > self._rules.max_language_rank:
            return Rejection("language", f"rank {rank}: none that is known, {language} is nearest")
        if language not in self._rules.languages:
            return Rejection("language", f"{language}, rank {rank}")
        return None


def _cut_chunks(lengths: list[int], numbers: list[int]) -> Iterator[list[int]]:
    chunk: list[int] = []
    size = 0
    for number in numbers:
        if chunk and size + lengths[number] > _CHUNK:
            yield chunk
            chunk, size = [], 0
        chunk.append(number)
        size += lengths[number]
    if chunk:
        yield chunk
