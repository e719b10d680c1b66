"""Benches of the model calls against the loopback endpoint: `python tests/bench/calls.py [part ...]`.

    process   one process through the openai package
    limits    limits that processes share, fixed and found out
    stage     the whole stage in Spark, and what spooling costs
    start     the start of a stage whose questions are all answered, in a ledger of five million
    peers     bespokelabs-curator and the OpenAI cookbook's parallel processor beside ours

Ratios are what counts: run it on a machine that does nothing else. Without a part it runs all of them (half an hour).
"""

from __future__ import annotations

from bench_main import run_parts

PARTS = ("process", "limits", "stage", "start", "peers")
FILES = {"peers": {"cookbook": "the cookbook's api_request_parallel_processor.py, for peers"}}

if __name__ == "__main__":
    run_parts("calls", PARTS, __doc__, FILES)
