"""datatrove's filters over texts: `peer_filters.py FILE`, a JSON list; as examples/fineweb.py has them, English words.

The first text is read before it says `ready`: the tokenizer, spacy.blank("en"), is made then.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.base_filter import get_filter_result

STEPS = (GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False))


def judge(text: str) -> str:
    """Why the text is dropped by the first filter that refuses it; nothing if none does."""
    document = Document(text=text, id="0")
    for step in STEPS:
        is_kept, reason = get_filter_result(step.filter(document))
        if not is_kept:
            return reason or type(step).__name__
    return ""


def main(file: str) -> None:
    texts = json.loads(Path(file).read_text())
    judge(" ".join(texts[:1]) or "No text.")
    print("ready", flush=True)
    sys.stdin.readline()
    cpu = time.process_time()
    reasons = Counter(judge(text) for text in texts if text.strip())
    print(json.dumps({"cpu_s": time.process_time() - cpu, "reasons": reasons}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
