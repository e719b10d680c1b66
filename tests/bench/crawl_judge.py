"""A judge that refuses nothing: ours without the page rules, for what reading and language alone cost.

Texts stay as they stand in the record, as in the loops beside it: they are normalized and cut for the rules, so that
counts with the rules.

It stands in for PageJudge in Spark's workers too, which import it by name.
"""

from __future__ import annotations

from collections.abc import Sequence

from resiliparse.parse.lang import detect_fast

from persona_hub.core.hosts import find_domain
from persona_hub.core.page_judge import ANY_RANK, Verdict
from persona_hub.settings import CrawlSettings


class LanguageJudge:
    """Finds each text's language and domain, and keeps it."""

    def __init__(self, settings: CrawlSettings, blocked: frozenset[str]) -> None:
        pass

    def judge(self, texts: Sequence[str], urls: Sequence[str]) -> list[Verdict]:
        return [self._judge_page(text, url) for text, url in zip(texts, urls, strict=True)]

    def _judge_page(self, text: str, url: str) -> Verdict:
        language, rank = detect_fast(text, cutoff=ANY_RANK)
        return Verdict(text, False, find_domain(url), language, rank)
