"""Every real page is judged as the papers read: ours beside a plain reading of them. Takes a while (`make test-long`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from plain_rules import judge_plainly
from real_pages import read_texts

from persona_hub.core.page_judge import PageJudge
from persona_hub.settings import CrawlSettings, PageRuleSettings

# The published values where ours differ, and lines so low that each rule has much to say.
STRICT = PageRuleSettings(
    max_curly_ratio=0,
    min_alphabetic_words=0.8,
    max_duplicate_ngrams=(0.15, 0.14, 0.13, 0.12, 0.11, 0.1),
)
STRICTER = PageRuleSettings(
    lorem_ipsum=False,
    min_prose_share=0,
    max_symbol_ratio=0.01,
    max_bullet_lines=0.2,
    max_ellipsis_lines=0.05,
    min_stop_words=6,
    max_duplicate_lines=0.9,
    max_duplicate_line_chars=0.9,
    max_top_ngrams=(0.06, 0.05, 0.05),
    max_duplicate_ngrams=(0.1, 0.1, 0.1, 0.05, 0.05, 0.02),
)


@pytest.mark.parametrize("rules", [PageRuleSettings(), STRICT, STRICTER], ids=["ours", "published", "strict"])
@pytest.mark.parametrize("name", ["common-crawl/CC-MAIN-2020-50-sample.warc.wet.gz", "pages.warc.gz"])
def test_every_real_page_is_judged_as_the_papers_read(shared_data: Path, name: str, rules: PageRuleSettings) -> None:
    settings = CrawlSettings(rules=rules)
    texts = read_texts(shared_data / "crawl" / name)
    verdicts = PageJudge(settings, frozenset()).judge(texts, [""] * len(texts))
    expected = [judge_plainly(text, settings) for text in texts]
    assert [verdict.refusal.rule if verdict.refusal else None for verdict in verdicts] == expected
