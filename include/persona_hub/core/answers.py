"""What can be said of any model's answer: rules that personas and samples share, and the readers of what it holds."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from persona_hub.core.pii import find_pii
from persona_hub.core.text import SPACELESS
from persona_hub.core.verdict import Rejection

# A character of these is worth about six tenths of a word.
_UNSPACED = re.compile(f"[{SPACELESS}]")
_WORD = re.compile(r"\w+(?:['’]\w+)?")
_SENTENCE_END = re.compile(r"[.!?…。！？｡।؟]['\"”’»」』)\]*_`}]*$")
_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL | re.IGNORECASE)
_REFUSAL = re.compile(
    r"^(?:(?:i['’]?m|i am) (?:very |so |really )?sorry|sorry,|i apologi[sz]e|unfortunately, i\b"
    r"|(?:i['’]m|i am) (?:unable|not able) to|i (?:cannot|can['’]?t|can not|won['’]?t|will not)"
    r" (?:assist|help|create|provide|generate|write|fulfil|comply|do that|answer|continue)"
    r"|抱歉|对不起|對不起|很抱歉|申し訳)"
    r"|\bas an? (?:ai|artificial intelligence)(?: language)? (?:model|assistant)\b|作为一个?(?:ai|人工智能)",
    re.IGNORECASE,
)

# How reasoning models mark their thoughts where the server leaves them in the answer: begin, end.
_THOUGHTS = {
    "<think>": "</think>",  # DeepSeek R1, Qwen 3
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",  # Magistral
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",  # gpt-oss
}
_ENDS = {begin.lower(): end.lower() for begin, end in _THOUGHTS.items()}
_THOUGHT_MARK = re.compile("|".join(map(re.escape, [*_ENDS, *_ENDS.values()])), re.IGNORECASE)


def split_words(text: str) -> list[str]:
    """Words in lower case; a character of a script without spaces is a word."""
    return _WORD.findall(_UNSPACED.sub(lambda found: f" {found.group()} ", text.lower()))


def count_words(text: str) -> float:
    """Number of words; characters of scripts without spaces count 0.6."""
    unspaced = len(_UNSPACED.findall(text))
    return len(split_words(text)) - 0.4 * unspaced


def ends_sentence(text: str) -> bool:
    """Whether the text ends as a sentence does; a closing quote or bracket may follow the mark."""
    return bool(_SENTENCE_END.search(text.rstrip()))


def repeats_itself(text: str) -> bool:
    """Whether the text runs in circles, as small models do.

    Half of its four-word runs are repeats (Gopher, arXiv 2112.11446, table A1, measures the like), or one line or
    sentence of five words and more stands there four times, of ten words and more three times. Texts under
    16 words are left alone.
    """
    words = split_words(text)
    if len(words) >= 16:
        runs = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
        if sum(count - 1 for count in runs.values()) >= 0.5 * runs.total():
            return True
    lines = Counter(line.strip().lower() for line in re.split(r"\n+|(?<=[.!?])\s+", text) if len(line.split()) >= 5)
    return any(count >= (3 if len(line.split()) >= 10 else 4) for line, count in lines.items())


def echoes(text: str, sources: Iterable[str], run: int = 5) -> bool:
    """Whether most of the text stands in one of the sources: more than half of its word runs of this length.

    A text shorter than a run echoes only a source that says the same words.
    """
    words = split_words(text)
    runs = _cut_runs(words, run)
    for source in sources:
        other = split_words(source)
        if words == other or (runs and len(runs & _cut_runs(other, run)) > 0.5 * len(runs)):
            return True
    return False


def _cut_runs(words: list[str], run: int) -> set[tuple[str, ...]]:
    return set(zip(*(words[start:] for start in range(run)), strict=False))


def refuse_answer(text: str | None, finish_reason: str | None) -> Rejection | None:
    """The rules that hold for every answer, in this order.

    `empty` (no text at all), `refusal` (the model says that it will not, or its endpoint's filter did), `cut` (the
    limit of tokens came before a sentence's end), `loop` (it runs in circles), `pii`.
    """
    if finish_reason in ("content_filter", "refusal"):
        return Rejection("refusal", f"finish_reason {finish_reason}")
    text = (text or "").strip()
    if not re.search(r"\w", text):
        return Rejection("empty", text[:80])
    if found := _REFUSAL.search(text):
        return Rejection("refusal", found.group())
    if repeats_itself(text):
        return Rejection("loop", text[-80:])
    if finish_reason == "length" and not ends_sentence(text):
        return Rejection("cut", text[-80:])
    if kinds := find_pii(text):
        return Rejection("pii", ", ".join(kinds))
    return None


def cut_thoughts(text: str) -> str:
    """The answer of a reasoning model without the thoughts before it; of thoughts that never end nothing is left.

    An end without a beginning counts too: some chat templates put the beginning into the prompt. What stands in the
    middle of an answer is part of it.
    """
    cut, end = 0, ""
    for mark in _THOUGHT_MARK.finditer(text):
        found = mark.group().lower()
        if end:
            if found == end:
                cut, end = mark.end(), ""
        elif found in _ENDS:
            if text[cut : mark.start()].strip():
                break
            end = _ENDS[found]
        elif cut == 0:
            cut = mark.end()
    if end:
        return ""
    return text[cut:].lstrip() if cut else text


def parse_object(text: str) -> dict[str, Any] | Rejection:
    """Reads one JSON object from an answer.

    Tolerant of what stands around it (a code fence, words before or after), never of what is in it: half an object,
    a key given twice, NaN, or another kind of value is `unparsable`.
    """
    fenced = _FENCED.search(text)
    start = text.find("{")
    if not fenced and (start < 0 or text.lstrip()[:1] == "["):
        return Rejection("unparsable", f"no JSON object: {text.strip()[:80]}")
    try:
        decoder = json.JSONDecoder(object_pairs_hook=_take_pairs, parse_constant=_refuse_constant)
        value: dict[str, Any]
        value, _ = decoder.raw_decode(fenced.group(1) if fenced else text[start:])
    except (ValueError, RecursionError) as error:
        return Rejection("unparsable", f"no JSON object: {str(error)[:80]}")
    return value  # begins with {, so it is an object


def _take_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key is given twice")
    return table


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
