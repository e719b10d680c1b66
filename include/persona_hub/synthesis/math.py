"""Math problems (arXiv 2406.20094, section 4.1): a problem, without its solution."""

from __future__ import annotations

import re

from persona_hub.core.answers import count_words
from persona_hub.core.verdict import Rejection
from persona_hub.synthesis.data_type import DataType, Sample
from persona_hub.synthesis.forms import refuse_chatter, refuse_solution, strip_label

MIN_WORDS = 10

_ASKS = re.compile(
    r"[?？]|\b(?:find|determine|calculate|compute|prove|show|derive|solve|evaluate|estimate|formulate|express|write|design|construct"
    r"|describe|explain|develop|create|what|how (?:many|much|long|far|fast)|which|minimi[sz]e|maximi[sz]e|optimi[sz]e|predict|model|simplify"
    r"|use|provide|analy[sz]e|identify|verify|define|give|assess|check|suppose you|round|compare|propose|justify|draw|plot|discuss|perform"
    r"|demostrar|demuestra|encuentra|calcula|trouve[rz]?|finde|berechne)\b|\bby (?:find|calculat|determin)ing\b|求|找出|证明|計算|计算|多少|确定",
    re.IGNORECASE,
)
_QUANTITY = re.compile(
    r"\d|[=<>≤≥∑∫√∞π±×÷]|\\[a-z]+|\$[^$]+\$|\b[a-zA-Z]\([a-zA-Z]\)"
    r"|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred|thousand|million|half|twice"
    r"|double|triple|third|quarter|dozen|percent|probability|ratio|sum|average|function|equation|angle|set|graph|integer|matrix|number)\b"
    r"|[一二三四五六七八九十百千万]",
    re.IGNORECASE,
)


def check_math(text: str) -> Sample | Rejection:
    """Refuses `chatter`, `too_short`, `no_question` (nothing is asked), `no_quantity` (nothing to reckon), `solution`."""
    text = strip_label(text, "Math problem", "Problem")
    if refused := refuse_chatter(text):
        return refused
    if count_words(text) < MIN_WORDS:
        return Rejection("too_short", text[:80])
    if not _ASKS.search(text):
        return Rejection("no_question", text[-80:])
    if not _QUANTITY.search(text):
        return Rejection("no_quantity", text[:80])
    return refuse_solution(text) or Sample(text)


MATH = DataType(name="math", description="math problem", prompt="math", check=check_math)
