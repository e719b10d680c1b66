"""Export: what training reads. JSONL in the paper's fields beside Parquet with lineage, and a manifest.

Read with deltalake, without a Spark driver; files appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from deltalake import DeltaTable

from persona_hub.core.keys import parse_slice_key
from persona_hub.settings import Settings
from persona_hub.synthesis import registry
from persona_hub.tables.gold import PERSONAS, task_table

log = logging.getLogger(__name__)


def export_samples(settings: Settings, slice_key: str, data_type: str) -> Path:
    """Writes one data type of one slice as `<exports>/<slice>/<type>/{samples.jsonl,samples.parquet,manifest.json}`.

    Returns:
        The folder. A repeat over the same table gives the same files, byte for byte.
    """
    parse_slice_key(slice_key)
    kind, table = registry.get(data_type), task_table(data_type)
    folder = Path(settings.exports) / slice_key / data_type
    folder.mkdir(parents=True, exist_ok=True)
    stored = DeltaTable(table.path(settings.lake))
    rows = stored.to_pyarrow_table(filters=[("slice", "=", slice_key)]).sort_by("sample_id")
    made_with: Counter[tuple[str, str, str]] = Counter()
    with _Whole(folder / "samples.jsonl") as scratch, scratch.open("w", encoding="utf-8") as file:
        for batch in rows.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                file.write(_format_line(row) + "\n")
                made_with[row["prompt_id"], row["prompt_hash"], row["model"]] += 1
    with _Whole(folder / "samples.parquet") as scratch:
        pq.write_table(rows.drop(["slice"]), scratch)
    manifest = {
        "slice": slice_key,
        "data_type": data_type,
        "description": kind.description,
        "rows": rows.num_rows,
        "tables": {
            table.name: stored.version(),
            PERSONAS.name: DeltaTable(PERSONAS.path(settings.lake)).version(),
        },
        "made_with": [
            {"prompt_id": prompt, "prompt_hash": prompt_hash, "model": model, "rows": count}
            for (prompt, prompt_hash, model), count in sorted(made_with.items())
        ],
        "sha256": {name: _hash_file(folder / name) for name in ("samples.jsonl", "samples.parquet")},
    }
    with _Whole(folder / "manifest.json") as scratch:
        scratch.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    log.info("%d samples of %s exported to %s", rows.num_rows, data_type, folder)
    return folder


def _format_line(row: dict[str, Any]) -> str:
    fields = {"input persona": row["persona"], "synthesized text": row["text"], "description": row["description"]}
    return json.dumps(fields, ensure_ascii=False)


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Whole:
    """A file that takes its name when it is complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scratch = path.with_name(f".{path.name}.{os.getpid()}")

    def __enter__(self) -> Path:
        return self._scratch

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._scratch.replace(self._path)
        else:
            self._scratch.unlink(missing_ok=True)
