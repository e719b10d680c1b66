"""What is no persona: one rule per id, tried in this order; the first that fits is the reason.

| id | refuses |
| --- | --- |
| empty, refusal, loop, cut, pii | as for every answer (`core/answers.py`) |
| url | holds a web address |
| about_text | speaks of the text or to the asker ("The text is about…", "Sure, here is…") instead of a person |
| first_person | speaks as somebody ("I love this bread") without saying who; "I'm a baker" says it |
| no_person | an English "A ..." in which no word could name a person or a group ("A wonderful experience") |
| several_lines | more than one line: a list, a headline, a dialogue |
| markup | brackets, tags, code or a table in place of a sentence |
| too_short, too_long | under 4 words, over 80; the published personas have 13 on average, 77 at most |
| echo | the words of a demonstration in the prompt |
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from persona_hub.core.answers import count_words, echoes, refuse_answer
from persona_hub.core.verdict import Rejection

MIN_WORDS = 4
MAX_WORDS = 80
MAX_CHARS = 1_000  # what the table takes: one endless word is no persona

_URL = re.compile(r"https?://|\bwww\.\w", re.IGNORECASE)
_ABOUT_TEXT = re.compile(
    r"^(?:(?:the|this|that|these)\s+(?:\w+\s+){0,2}?(?:text|article|page|passage|document|website|web\s?page|site|blog|post|story"
    r"|book|persona|content|information|paragraph|following|answer|response|question|reader is|summary)\b"
    r"|(?:sure|certainly|of course|here(?:'s|’s| is| are)|based on|according to|to (?:read|learn|find|get|buy))\b"
    r"|(?:(?-i:[Ii]t)|this|that|they|there|we|you|your|if|when|in this|with this)\b)",
    re.IGNORECASE,
)
_FIRST_PERSON = re.compile(r"^(?:i|we|my|our)\b(?!['’]m an?\b| am (?:an?|the|one)\b| work as\b)", re.IGNORECASE)
# Endings and words that name people; loose on purpose: it refuses 1 in 1,000 of the published personas.
_PERSON = re.compile(
    r"\b(?:\w{2,}(?:[aeo]rs?|[iy]sts?|ians?|ants?|[ei]e?nts?|eers?|ess|m[ae]n|woman|women|people|ees?|tects?|neys?|tives?|nauts?"
    r"|mates?|wrights?|zens?|crats?|hands?|alists?)|persons?|organi[sz]ations?|buffs?|nurses?|chefs?|coach(?:es)?|guides?|kids?"
    r"|child(?:ren)?|mom|dad|boy|girl|geek|guru|friends?|monk|priest|rabbi|imam|judge|clerk|pilot|expert|enthusiasts?|native|athlete"
    r"|cop|colleague|wife|husband|couple|family|team|group|company|firm|institute|advocate|novice|polymath|linguist|adult|teen\w*"
    r"|graduate|candidate|head|chief|guard|cook|DJ|vet|spy|king|queen|apprentice|attaché|expat|newbie|justice|magnate|host|alum\w*"
    r"|professional|individual|official|intellectual|entrepreneur|connoisseur|diplomat|tycoon|critic|academic|mechanic|comic|skeptic"
    r"|fanatic|medic|executive|relative|principals?|poets?|captain|ceo|cto|phd|undergrad\w*|pupil|bishop|laureate|member|aficionado|billionaire|delegate|ally|scout|postdoc|\w+(?:phile|person|legal)|veterans?|fans?|american|who|whose)\b",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"[<>{}|\\=]|```|\[\w+\]|_{3,}|-{4,}|\*{3,}")


def refuse_persona(text: str, finish_reason: str | None, examples: Sequence[str]) -> Rejection | None:
    """The reason why a text is no persona, or none.

    Args:
        text: the answer, stripped.
        finish_reason: the endpoint's word for why the answer ends.
        examples: personas that the prompt showed.
    """
    if refused := refuse_answer(text, finish_reason):
        return refused
    if _URL.search(text):
        return Rejection("url", text[:80])
    if re.match(r"(?i:an?)\s", text) and not _PERSON.search(text):
        return Rejection("no_person", text[:80])
    if "\n" in text:
        return Rejection("several_lines", text[:80])
    if found := _MARKUP.search(text):
        return Rejection("markup", found.group())
    if found := _FIRST_PERSON.match(text):
        return Rejection("first_person", text[:80])
    if found := _ABOUT_TEXT.match(text):
        return Rejection("about_text", found.group())
    words = count_words(text)
    if words < MIN_WORDS:
        return Rejection("too_short", f"{words:g} words")
    if words > MAX_WORDS or len(text) > MAX_CHARS:
        return Rejection("too_long", f"{words:g} words, {len(text)} characters")
    if echoes(text, examples, run=3):
        return Rejection("echo", text[:80])
    return None
