"""Makes the class-data archive that lets a Spark driver start faster: `python -m local.class_data --home .hub`.

Java keeps the parsed classes of one run in a file (AppCDS), and later runs map it instead of reading 200 jars. The
archive fits one Java, one Spark and one set of jars; a stamp beside it says which, and another one is made when
they change. Without it everything works as well, only slower. `--measure` prints the seconds of a small job.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from local.home import CHECKOUT, Home, find_home
from persona_hub.settings import load_settings
from persona_hub_airflow.spark_conf import driver_conf

JOB = CHECKOUT / "include" / "local" / "class_data_job.py"
JAVA_OPTIONS = "spark.driver.extraJavaOptions"


def fingerprint(home: Home, conf: dict[str, str]) -> str:
    """A hash of what an archive depends on: Java, the two jar folders, the job's flags and steps."""
    import pyspark

    java = Path(os.environ.get("JAVA_HOME") or "/").resolve()
    parts = [
        str(java),
        *[file.read_text() for file in (java / "release",) if file.is_file()],
        JOB.read_text(),
        str(conf),
    ]
    for folder in (home.path / "jars", Path(pyspark.__file__).parent / "jars"):
        parts += sorted(f"{jar} {jar.stat().st_size} {jar.stat().st_mtime_ns}" for jar in folder.glob("*.jar"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def plain_conf(home: Home) -> dict[str, str]:
    """The conf of every driver, less the archive itself."""
    conf = driver_conf(load_settings({"PERSONA_HUB_HOME": str(home.path)}))
    options = conf[JAVA_OPTIONS].split()
    kept = [option for option in options if not option.startswith(("-Xshare", "-XX:SharedArchiveFile"))]
    return {**conf, JAVA_OPTIONS: " ".join(kept)}


def run_job(conf: dict[str, str], option: str = "") -> tuple[str, subprocess.CompletedProcess[str]]:
    """Runs the small job as Airflow would; returns its wall and processor seconds as text, and what it printed."""
    conf = {**conf, JAVA_OPTIONS: f"{conf[JAVA_OPTIONS]} {option}".strip()}
    # spark-submit is a script that looks for Spark through a Python: it shall be this one.
    env = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    env.pop("SPARK_HOME", None)
    submit = [str(Path(sys.prefix) / "bin" / "spark-submit"), "--master", "local[2]", "--deploy-mode", "client"]
    for name, value in conf.items():
        submit += ["--conf", f"{name}={value}"]
    with tempfile.TemporaryDirectory(prefix="class-data-") as folder:
        started, used = time.monotonic(), _read_processor_seconds()
        command = [*submit, str(JOB), f"{folder}/table"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        spent = f"{time.monotonic() - started:.1f} s ({_read_processor_seconds() - used:.1f} s of processor)"
        return spent, done


def _read_processor_seconds() -> float:
    # Says more than the wall clock where others use the machine too.
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def make_archive(home: Home) -> str:
    """Makes the archive where none fits; returns what to tell, empty when there was nothing to do."""
    conf = plain_conf(home)
    folder = home.path / "cds"
    archive, stamp = folder / "spark.jsa", folder / "stamp"
    wanted = fingerprint(home, conf)
    if archive.is_file() and stamp.is_file() and stamp.read_text() == wanted:
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    print("Class-data archive for faster Spark drivers: 190 MB, 30 s to 2 minutes", flush=True)
    draft = folder / "draft.jsa"
    draft.unlink(missing_ok=True)
    _, done = run_job(conf, f"-XX:ArchiveClassesAtExit={draft}")
    (home.logs / "class-data.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        # The job is the first use of Spark, Delta and Java here: where it fails, no other would work.
        raise SystemExit(f"A first Spark job failed, see {home.logs / 'class-data.log'}:\n{done.stderr[-1500:]}")
    if not draft.is_file():
        return "This Java makes no class-data archive: drivers start slower, all else is the same"
    draft.replace(archive)
    stamp.write_text(wanted)
    return ""


def measure(home: Home, runs: int = 3) -> str:
    """Seconds of the small job without and with the archive, taken in turns."""
    conf = plain_conf(home)
    option = f"-Xshare:auto -XX:SharedArchiveFile={home.path / 'cds' / 'spark.jsa'}"
    pairs = [(run_job(conf)[0], run_job(conf, option)[0]) for _ in range(runs)]
    return "\n".join(f"without {without}, with {with_it}" for without, with_it in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.class_data", description=__doc__.splitlines()[0])
    parser.add_argument("--home", help="the installation's folder; .hub in the checkout if unset")
    parser.add_argument("--measure", action="store_true", help="print the seconds of a small job without and with it")
    chosen = parser.parse_args()
    home = find_home(chosen.home)
    if told := measure(home) if chosen.measure else make_archive(home):
        print(told)


if __name__ == "__main__":
    main()
