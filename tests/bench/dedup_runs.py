"""One run of a peer or of ours: in processes of its own, with the most memory that all of them held at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from bench_spark import run_driver
from bench_tools import CHECKOUT, HERE
from crawl_linear import TreeWatch
from dedup_corpus import HOME, number_rows
from deltalake import DeltaTable

PEERS = CHECKOUT / ".hub" / "bench-peers-dedup"
# spacy is what datatrove's English words come from: an extra of its own there.
PACKAGES = (
    "datasketch==2.0.0",
    "datatrove[io,processing]==0.10.1",
    "faiss-cpu==1.15.1",
    "rensa==0.5.0",
    "spacy==3.8.18",
    "text-dedup==0.4.0",
    *(f"{name}=={version(name)}" for name in ("numpy", "pyarrow")),
)
SAMPLE_EVERY_S = 0.5  # looking at a process of gigabytes takes milliseconds of it
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": ""}


@dataclass(frozen=True)
class PeerRun:
    """Attributes: said, its line of JSON, with `seconds`; out, the array that it wrote."""

    said: dict[str, Any]
    out: np.ndarray
    peak_mb: float

    @property
    def seconds(self) -> float:
        return float(self.said["seconds"])


@dataclass(frozen=True)
class OurRun:
    """Attributes: said, what the driver measured; wall_s, from the start of its process to its end, Spark's included."""

    said: dict[str, Any]
    wall_s: float
    peak_mb: float

    @property
    def seconds(self) -> float:
        """After session start."""
        return float(self.said["seconds"])


def install_peers() -> str:
    """The peers' Python; the environment is made where it is missing."""
    python = PEERS / "env" / "bin" / "python"
    uv = str(CHECKOUT / ".hub" / "tools" / "bin" / "uv")
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(PEERS / "env")], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *PACKAGES], check=True)
    return str(python)


def run_peer(python: str, script: str, *arguments: object) -> PeerRun:
    """Runs `SCRIPT OUT ARGUMENT...` to its end.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    with make_home() as folder, TreeWatch(SAMPLE_EVERY_S) as watch:
        out = Path(folder, "out.npy")
        command = [python, str(HERE / script), str(out), *map(str, arguments)]
        environment = os.environ | OFFLINE | {"TMPDIR": folder, "HF_HOME": folder}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if ended.returncode:
            raise RuntimeError(f"{script} ended with {ended.returncode}: {ended.stderr[-3000:]}")
        said = json.loads(ended.stdout.splitlines()[-1])
        written = np.load(out)
    return PeerRun(said, written, watch.peak_mb)


class Hub:
    """A lake of our own, and what drivers do with one corpus in it.

    Args:
        engine: words or vectors.
        settings: PERSONA_HUB_* beside the folder.
    """

    def __init__(self, home: Path, table: Path, engine: str, settings: dict[str, str] | None = None) -> None:
        self.home, self._table, self._engine = home, table, engine
        self._settings = (settings or {}) | {"PERSONA_HUB_HOME": str(home)}
        home.mkdir(parents=True, exist_ok=True)

    def compare(self, new: str, stored: bool = False) -> OurRun:
        """The run that is timed. Args: new: a slice; stored: whether the hub that was published stands against it."""
        return self.drive("compare", new, stored)

    def drive(self, action: str, new: str, stored: bool = False) -> OurRun:
        """Runs dedup_driver.py to its end, as Airflow starts a driver."""
        result = self.home / f"{action}.json"
        plan = {"action": action, "engine": self._engine, "table": self._table, "new": new, "stored": stored}
        plan |= {"removals": self.removals(new), "pairs": self.home / "pairs", "hub": self.home / "hub"}
        begun = time.monotonic()
        with TreeWatch(SAMPLE_EVERY_S) as watch:
            given = json.dumps(plan, default=str)
            run_driver("dedup_driver.py", result, given, log=self.home / "log", settings=self._settings)
        return OurRun(json.loads(result.read_text()), time.monotonic() - begun, watch.peak_mb)

    def copy(self, home: Path) -> Hub:
        """Another that goes on from here. Delta's files never change, so they are linked, not copied."""
        shutil.copytree(self.home, home, copy_function=os.link)
        for written in ("log", *(path.name for path in home.glob("*.json"))):
            (home / written).unlink(missing_ok=True)
        return Hub(home, self._table, self._engine, self._settings)

    def removals(self, new: str) -> Path:
        """Delta: row_id, survivor_id, step, similarity."""
        return self.home / f"removals-{new.replace('/', '-')}"

    def read_removals(self, new: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row numbers, ascending, their survivors', and similarities."""
        stored = DeltaTable(str(self.removals(new))).to_pyarrow_table()
        rows = number_rows(stored["row_id"])
        order = np.argsort(rows)
        return rows[order], number_rows(stored["survivor_id"])[order], stored["similarity"].to_numpy()[order]

    def read_pairs(self) -> Pairs:
        stored = pq.read_table(self.home / "pairs")
        ends = np.stack([number_rows(stored[side]) for side in ("a", "b")], 1)
        same = stored["identical"].to_numpy()
        return Pairs(ends[same], ends[~same])


@dataclass(frozen=True)
class Pairs:
    """Similar pairs as the engine holds them, int64 (n, 2) of row numbers.

    Attributes:
        identical: first, row; all pairs of the first are the row's, too.
        near: of rows that stand for themselves and for those like them.
    """

    identical: np.ndarray
    near: np.ndarray

    def find(self, pairs: np.ndarray, rows: int) -> np.ndarray:
        """Which of these pairs (n, 2) are among them, bool (n,). Args: rows: of the corpus."""
        first = np.arange(rows)
        first[self.identical[:, 1]] = self.identical[:, 0]
        near, wanted = (np.sort(first[ends], axis=1) for ends in (self.near, pairs))
        known = np.unique(near[:, 0] * rows + near[:, 1])
        return (wanted[:, 0] == wanted[:, 1]) | np.isin(wanted[:, 0] * rows + wanted[:, 1], known)


def make_home() -> tempfile.TemporaryDirectory[str]:
    """A folder for lakes, on the disk that holds the corpora."""
    HOME.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=HOME)
