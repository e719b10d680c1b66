"""The peers' environment, and processes in it that read crawl files at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench_tools import CHECKOUT, HERE

HOME = CHECKOUT / ".hub" / "bench-peers-crawl"
# fastwarc and resiliparse as we use them: the loops are to differ in what is around them. datatrove's English words
# and sentences come from spacy.blank("en") and its sentencizer, which fetch nothing; spacy is an extra of its own there.
PACKAGES = (
    "warcio==1.8.1",
    "datatrove[io,processing]==0.10.1",
    "spacy==3.8.18",
    "trafilatura==1.11.0",
    *(f"{name}=={version(name)}" for name in ("fastwarc", "resiliparse", "pyarrow", "numpy")),
)
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": ""}


def install_peers() -> str:
    """The peers' Python; the environment is made where it is missing."""
    python = HOME / "env" / "bin" / "python"
    uv = str(CHECKOUT / ".hub" / "tools" / "bin" / "uv")
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(HOME / "env")], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *PACKAGES], check=True)
    return str(python)


class Reader:
    """A process that reads crawl files. Ready when made; begins when told."""

    def __init__(self, *command: object, environment: dict[str, str] | None = None) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # lives as long as the process
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | (environment or {}),
            text=True,
        )
        assert self._process.stdin and self._process.stdout
        self._in, self._out = self._process.stdin, self._process.stdout
        self._await("ready")

    def begin(self) -> None:
        self._in.write("go\n")
        self._in.flush()

    def finish(self) -> dict[str, Any]:
        """What it measured: records, cpu_s, wall_s, peak_mb."""
        measured: dict[str, Any] = json.loads(self._await("{"))
        self._process.wait()
        return measured

    def _await(self, start: str) -> str:
        for line in self._out:
            if line.startswith(start):
                return line
        self._log.seek(0)
        said = self._log.read()[-2000:]
        raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()} before {start!r}: {said}")


def run_at_once(commands: Sequence[Sequence[object]], environment: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Starts them, and lets all begin when the last is ready."""
    readers = [Reader(*command, environment=environment) for command in commands]
    for reader in readers:
        reader.begin()
    return [reader.finish() for reader in readers]


def run_loop(python: str, loop: str, paths: list[str], out: Path, warm: Path, processes: int = 2) -> list[dict[str, Any]]:
    """Runs a loop of crawl_loop.py as so many processes at once, which share the files."""
    shares = [paths[place::processes] for place in range(processes)]
    return run_at_once([(python, HERE / "crawl_loop.py", loop, out, warm, *share) for share in shares], OFFLINE)
