"""Forms that several data types share: labels, solutions, chatter, parts of an object."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from persona_hub.core.verdict import Rejection

_CHATTER = re.compile(
    r"^(?:sure|certainly|of course|absolutely|great|okay|ok|here(?:'s|’s| is| are)\b.{0,80}:\s*$|here(?:'s|’s| is) (?:a|an|my|the)\b"
    r"|i(?:'d| would| can|'ll) (?:be happy|help|provide|create|suggest)|as requested\b)(?=$|[\s,!.:])",
    re.IGNORECASE | re.MULTILINE,
)
_SOLUTION = re.compile(
    r"^\W{0,4}(?:(?:the )?(?:full |final |correct |suggested )?(?:solution|answer|explanation|proof)s?\W{0,4}[:：]|step[- ]by[- ]step solution"
    r"|(?:to solve this|we (?:can|need to|will) (?:solve|use|find|calculate|start)|let['’]s (?:solve|calculate|find|break)\b))"
    r"|\b(?:the (?:final |correct )?answer is|(?:therefore|thus|hence|so), (?:the|it|there|we|he|she|they)\b.{0,80}\b(?:is|are|was|has|have|equals?)\b"
    r"(?=[^?]*$)|答案是|解答[:：])",
    re.IGNORECASE | re.MULTILINE,
)


def strip_label(text: str, *labels: str) -> str:
    """Takes away a label that the prompt asked for, such as `Math problem:`; nothing else."""
    pattern = r"^[\s*#_]*(?:" + "|".join(map(re.escape, labels)) + r")[*_]*\s*[:：][\s*_]*"
    return re.sub(pattern, "", text, count=1, flags=re.IGNORECASE).strip()


def refuse_chatter(text: str) -> Rejection | None:
    """`chatter`: speaks to the asker ("Sure! Here is…") before it comes to the thing."""
    found = _CHATTER.match(text)
    return Rejection("chatter", found.group()) if found else None


def refuse_solution(text: str) -> Rejection | None:
    """`solution`: a problem that carries its solution or answer."""
    found = _SOLUTION.search(text)
    return Rejection("solution", found.group().strip()[:80]) if found else None


def read_text(parts: Mapping[str, Any], name: str, low: int, high: int) -> str | Rejection:
    """A text of `low` to `high` characters from a part of an object.

    Refuses as `no_<name>` where it is missing or no text, as `bad_<name>` where its length is out of range.
    """
    value = parts.get(name)
    if not isinstance(value, str) or not value.strip():
        return Rejection(f"no_{name}", f"keys {sorted(parts)[:8]}")
    value = value.strip()
    if not low <= len(value) <= high:
        return Rejection(f"bad_{name}", f"{len(value)} characters, wanted {low} to {high}")
    return value


def write_payload(parts: Mapping[str, Any]) -> str:
    """Canonical JSON: keys sorted, no white space, as UTF-8 text."""
    return json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
