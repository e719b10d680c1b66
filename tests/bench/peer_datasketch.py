"""datasketch over personas, in one process: `peer_datasketch.py OUT FILE...`, as peer_rensa.py; 16 bands of 8."""

from __future__ import annotations

import json
import re
import sys
import time

import numpy as np
from datasketch import MinHash, MinHashLSH

WORD = re.compile(r"\w+")


def main(out: str, *files: str) -> None:
    begun = time.monotonic()
    rows = [json.loads(line) for file in files for line in open(file)]  # noqa: SIM115
    words = [[word.encode() for word in WORD.findall(row["persona"].lower())] for row in rows]
    index, kept = MinHashLSH(num_perm=128, params=(16, 8)), {}
    for row, own in zip(rows, MinHash.generator(words, num_perm=128, seed=1), strict=True):
        if any(own.jaccard(kept[other]) >= 0.9 for other in index.query(own)):
            continue
        index.insert(row["id"], own, check_duplication=False)
        kept[row["id"]] = own
    print(json.dumps({"seconds": time.monotonic() - begun}), flush=True)
    np.save(out, np.asarray(list(kept), np.int64))


if __name__ == "__main__":
    main(*sys.argv[1:])
