"""The whole way of the data, once: `python -m local.demo [--source FOLDER-OR-URL]`.

Lets Airflow enter the mirror's snapshot into the crawl calendar by `refresh_crawls`, or registers your own files; then
lets it run `extract_personas` for the first slice and `synthesize_tasks` by its asset, and prints what came out.
Everything stays up until `make down`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from local.airflow_api import AirflowApi, TaskState
from local.home import Home, find_home
from local.report import clean_line, read_report, render_report
from local.services import Services, connect, describe_login, up
from persona_hub.crawl.calendar import Snapshot, load_calendar
from persona_hub.crawl.files import hide_secrets, make_access
from persona_hub.crawl.growth import add_snapshot
from persona_hub.crawl.source import find_base, find_snapshots
from persona_hub.errors import HubError
from persona_hub.settings import Settings, load_settings
from persona_hub.synthesis import registry

REFRESH, EXTRACT, SYNTHESIZE = "refresh_crawls", "extract_personas", "synthesize_tasks"
# The sample crawl has two files: both in one slice, so that one run shows all pages.
SAMPLE_FILES_PER_SLICE = 2
SAMPLE_PERSONAS_PER_TYPE = 2
SOURCE_PAGES = 60
PAGES, PERSONAS = "PERSONA_HUB_CRAWL__PAGES_PER_SLICE", "PERSONA_HUB_SYNTHESIS__PERSONAS_PER_TYPE"
FILES = "PERSONA_HUB_CRAWL__FILES_PER_SLICE"
LOG_LINES = 25


def run_demo(home: Home, source: str | None) -> int:
    """Runs it; returns the exit code.

    Raises:
        HubError: what the services, the source, or Airflow's API refuse.
    """
    started = time.monotonic()
    if source and "://" not in source:
        source = str(Path(source).absolute())  # Airflow's tasks run in another folder
    services = up(home, choose_limits(home, source))
    settings = load_settings(services.settings)
    api = connect(services)
    if source:
        snapshot = register_snapshot(settings, source)
    else:
        print(f"\nThe crawl calendar: {REFRESH}, from {clean_line(hide_secrets(settings.crawl.source))}", flush=True)
        run = REFRESH, api.trigger_run(REFRESH, None)
        if follow_run(api, *run) != "success":
            return report_failure(api, services, home, run)
        snapshot = find_newest(settings)
    print(
        f"Snapshot {clean_line(snapshot.id)}: {snapshot.files} files in {snapshot.slices} slices, "
        f"at {clean_line(hide_secrets(snapshot.base))}"
    )
    key = str(snapshot.slice(1).key)
    print(f"\nSlice {key}: {EXTRACT}, then by its asset {SYNTHESIZE}", flush=True)
    known = {run["dag_run_id"] for run in api.list_runs(SYNTHESIZE, key)}
    runs = [(EXTRACT, api.trigger_run(EXTRACT, key))]
    state = follow_run(api, *runs[0])
    if state == "success":
        runs.append((SYNTHESIZE, api.find_new_run(SYNTHESIZE, key, known)))
        state = follow_run(api, *runs[1])
    if state != "success":
        return report_failure(api, services, home, runs[-1])
    print()
    print(render_report(read_report(settings.lake, key), settings.exports))
    print(f"\nDone in {time.monotonic() - started:.0f} s. {describe_login(services)}")
    print("Everything stays up until `make down`.")
    return 0


def choose_limits(home: Home, source: str | None) -> dict[str, str]:
    """What keeps a demo short, said aloud; a limit that the user has set stays."""
    set_here = home.settings_environment()
    of_crawl = {PAGES: str(SOURCE_PAGES)} if source else {FILES: str(SAMPLE_FILES_PER_SLICE)}
    limits = {PERSONAS: str(SAMPLE_PERSONAS_PER_TYPE)} | of_crawl
    chosen = {name: value for name, value in limits.items() if name not in set_here}
    for name, value in chosen.items():
        print(f"For the demo {name}={value}; set it yourself for another number")
    return chosen


def register_snapshot(settings: Settings, source: str) -> Snapshot:
    """Enters the newest snapshot of a source into the calendar."""
    listing = find_snapshots(source, make_access(settings), newest=1)[0]
    return add_snapshot(settings.lake, settings.calendar, listing, settings.crawl.files_per_slice)


def find_newest(settings: Settings) -> Snapshot:
    """The newest snapshot that `refresh_crawls` has entered from its source."""
    base = find_base(settings.crawl.source)
    return [snapshot for snapshot in load_calendar(settings.calendar).snapshots if snapshot.base == base][-1]


def follow_run(api: AirflowApi, dag_id: str, run_id: str) -> str:
    """Prints a line per task that begins or ends; returns the run's last state."""
    return api.wait_for_run(dag_id, run_id, make_printer())


def make_printer(say: Callable[[str], None] = print) -> Callable[[TaskState], None]:
    """A callback for `wait_for_run`; states between queued and running are not worth a line."""

    def print_task(task: TaskState) -> None:
        if task.state in (None, "scheduled", "queued", "removed"):
            return
        # Airflow shows a mapped task by its number until it has run.
        label = registry.names()[task.map_index] if task.map_index >= 0 else ""
        name = f"{task.task_id} [{label}]" if label else task.task_id
        seconds = f"{task.seconds:.0f} s" if task.seconds is not None and task.state != "running" else ""
        again = f"try {task.try_number}" if task.try_number > 1 else ""
        say(f"  {time.strftime('%H:%M:%S')}  {name:<52} {task.state:<12} {seconds:>6} {again}".rstrip())

    return print_task


def report_failure(api: AirflowApi, services: Services, home: Home, run: tuple[str, str]) -> int:
    """Prints what failed and where to look; returns the exit code."""
    print(f"\n{explain_failure(api, *run)}")
    print(f"\nTo look further: {describe_login(services)}; logs: {home.logs} and {home.airflow / 'logs'}")
    return 1


def explain_failure(api: AirflowApi, dag_id: str, run_id: str) -> str:
    """Which tasks failed, and the last lines of their logs."""
    parts = [f"{dag_id} failed ({run_id})."]
    for task in api.list_tasks(dag_id, run_id):
        if task.state == "failed":
            log = [clean_line(line, 400) for line in api.read_log(dag_id, run_id, task)]
            label = f" [{task.label}]" if task.label else ""
            parts += [
                f"\n{task.task_id}{label}, try {task.try_number}; its log ends with:",
                *[f"  {line}" for line in log[-LOG_LINES:]],
            ]
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--source", help="a folder or URL with WET, WARC or ARC files; the sample crawl if unset")
    parser.add_argument("--home", help="the installation's folder; .hub in the checkout if unset")
    chosen = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True, errors="replace")  # type: ignore[union-attr]
    try:
        return run_demo(find_home(chosen.home), chosen.source)
    except HubError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
