"""datatrove's MinHash dedup, in two processes: `peer_datatrove_dedup.py OUT FILE...`, as peer_rensa.py.

The four steps of its own examples/minhash_deduplication.py with word 1-grams and 16 buckets of 8. English words come
from spacy.blank("en"), so nothing is fetched. It keeps one row of a cluster and verifies no pair.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.typeshelper import Languages

WORKERS = 2


def run_steps(source: str, work: str) -> None:
    config = MinhashConfig(n_grams=1, num_buckets=16, hashes_per_bucket=8, hash_config=HashConfig(precision=64))
    reader = JsonlReader(source, text_key="persona", id_key="id")
    signature = MinhashDedupSignature(f"{work}/signatures", config=config, language=Languages.english)
    steps = [
        ([reader, signature], WORKERS),
        ([MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=config)], 16),
        ([MinhashDedupCluster(f"{work}/buckets", f"{work}/removed", config=config)], 1),
        ([reader, MinhashDedupFilter(f"{work}/removed"), JsonlWriter(f"{work}/out", compression=None)], WORKERS),
    ]
    for number, (pipeline, tasks) in enumerate(steps):
        workers = min(tasks, WORKERS)
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=workers, logging_dir=f"{work}/logs{number}").run()


def main(out: str, *files: str) -> None:
    with tempfile.TemporaryDirectory() as work:
        source = Path(work, "in")
        source.mkdir()
        lines = [line for file in files for line in Path(file).read_text().splitlines(keepends=True)]
        for share in range(WORKERS):  # a file is the least that it divides
            Path(source, f"{share}.jsonl").write_text("".join(lines[share::WORKERS]))
        begun = time.monotonic()
        run_steps(str(source), work)
        seconds = time.monotonic() - begun
        written = [Path(work, "out", name) for name in os.listdir(f"{work}/out")]
        rows = [json.loads(line) for path in written for line in path.read_text().splitlines()]
    print(json.dumps({"seconds": seconds}), flush=True)
    np.save(out, np.asarray([row.get("id", 0) for row in rows], np.int64))  # the writer leaves out what is 0


if __name__ == "__main__":
    main(*sys.argv[1:])
