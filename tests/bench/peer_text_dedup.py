"""text-dedup's MinHash, in two processes: `peer_text_dedup.py OUT FILE`, as peer_rensa.py.

Its own command with word 1-grams, 16 bands of 8, and nothing in its cache. It keeps one row of a cluster and verifies no
pair. Its start is counted: it is a command.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time

import numpy as np
from datasets import load_from_disk

OPTIONS = {
    "path": "json", "split": "train", "column": "persona", "ngram": 1, "min_length": 1, "threshold": 0.9, "num_perm": 128,
    "b": 16, "r": 8, "num_proc": 2,
}  # fmt: skip


def main(out: str, file: str) -> None:
    with tempfile.TemporaryDirectory() as work:
        options = OPTIONS | {"data_files": file, "output": f"{work}/out", "cache_dir": f"{work}/cache"}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        begun = time.monotonic()
        subprocess.run([sys.executable, "-m", "text_dedup.minhash", *words], check=True, stdout=sys.stderr)
        seconds = time.monotonic() - begun
        kept = load_from_disk(f"{work}/out")["id"][:]
    print(json.dumps({"seconds": seconds}), flush=True)
    np.save(out, np.asarray(kept, np.int64))


if __name__ == "__main__":
    main(*sys.argv[1:])
