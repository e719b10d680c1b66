"""rensa over personas, in one process: `peer_rensa.py OUT FILE...`, JSON on stdout; its kept rows go to OUT.

MinHash of 128 values in bulk, LSH of 16 bands, an earlier kept persona of estimated Jaccard >= 0.9 removes a later one.
Timed from reading the JSON lines to the list of rows that are kept; imports are not.
"""

from __future__ import annotations

import json
import re
import sys
import time

import numpy as np
import rensa

WORD = re.compile(r"\w+")


def main(out: str, *files: str) -> None:
    begun = time.monotonic()
    rows = [json.loads(line) for file in files for line in open(file)]  # noqa: SIM115
    words = [WORD.findall(row["persona"].lower()) for row in rows]
    index = rensa.RMinHashLSH(threshold=0.9, num_perm=128, num_bands=16)
    hashes = rensa.RMinHash.from_token_sets(words, num_perm=128, seed=42)
    kept = []
    for place, own in enumerate(hashes):
        if any(own.jaccard(hashes[other]) >= 0.9 for other in index.query(own)):
            continue
        index.insert(place, own)
        kept.append(rows[place]["id"])
    print(json.dumps({"seconds": time.monotonic() - begun}), flush=True)
    np.save(out, np.asarray(kept, np.int64))


if __name__ == "__main__":
    main(*sys.argv[1:])
