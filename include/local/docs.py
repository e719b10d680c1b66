"""Writes the generated pages of docs/: `python -m local.docs [--check]`.

    tables.md     from the descriptions in persona_hub.tables
    dags.md       from the files in dags/ and spark_jobs/, read as text: neither Airflow nor Spark is loaded
    settings.md   from the models in persona_hub.settings

With `--check` nothing is written; a page that is not what the code says now is shown as a diff, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import BaseModel

from local.home import CHECKOUT
from persona_hub import stages
from persona_hub.settings import PREFIX, Settings
from persona_hub.synthesis import registry
from persona_hub.tables import FIXED, Column, Table
from persona_hub.tables.gold import task_table

DOCS = CHECKOUT / "docs"
NOTE = "<!-- Written by `make docs` from the code. Change the code, not this page. -->"
DIFF_LINES = 20
MODEL_FLAG = "uses_model"


def build_pages() -> dict[str, str]:
    """Every generated page, by its name in docs/."""
    return {
        "tables.md": render_tables(FIXED, registry.names()),
        "dags.md": render_dags(CHECKOUT / "dags", CHECKOUT / "spark_jobs"),
        "settings.md": render_settings(Settings),
    }


def write_pages(folder: Path, pages: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


def find_stale(folder: Path, pages: Mapping[str, str]) -> dict[str, list[str]]:
    """Pages that are missing or differ, each with the first lines of its diff."""
    stale = {}
    for name, text in pages.items():
        file = folder / name
        stored = file.read_text(encoding="utf-8") if file.is_file() else ""
        if stored != text:
            diff = difflib.unified_diff(stored.splitlines(), text.splitlines(), str(file), "the code", lineterm="", n=0)
            stale[name] = list(diff)[:DIFF_LINES]
    return stale


def render_tables(fixed: Sequence[Table], data_types: Sequence[str]) -> str:
    """All tables; those of the data types are the same but for the name, so one of them stands for all."""
    model = task_table(data_types[0])
    lines = ["# Tables", NOTE, "", "Delta tables below the lake's root; `gold.personas` lies in `gold/personas`."]
    lines += ["Of the gold tables, a gate checks nulls, keys and forms before a slice is published.", ""]
    lines += [f"- [{table.name}](#{_anchor(table.name)}): {table.doc}" for table in fixed]
    lines += [f"- [gold.task_TYPE](#{_anchor('gold.task_TYPE')}): Published samples, a table for each data type."]
    for table in fixed:
        lines += ["", f"## {table.name}", "", table.doc, "", *_describe_table(table)]
    lines += ["", "## gold.task_TYPE", "", "Published samples of one data type. There is one such table for each of"]
    lines += [", ".join(f"`{name}`" for name in data_types) + ".", "", *_describe_table(model)]
    return _join(lines)


def render_dags(dags: Path, jobs: Path) -> str:
    """Each DAG's schedule, its Spark tasks with the first line of their job's docstring, and its own description."""
    lines = ["# DAGs", NOTE, "", "The UI shows the same descriptions beside each DAG.", ""]
    for file in sorted(dags.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        dag = next(_find_calls(tree, "DAG"))
        keywords = {one.arg: ast.unparse(one.value) for one in dag.keywords}
        lines += [f"## `{ast.literal_eval(dag.args[0])}`", "", f"File `{file.parent.name}/{file.name}`.", ""]
        lines += [f"- {name}: `{keywords[name]}`" for name in ("schedule", "catchup", "max_active_runs")]
        found = list(_find_jobs(tree))
        lines += ["", "| Spark task | asks the model | what it does |", "| --- | --- | --- |"] if found else []
        for job, call in found:
            says = ast.get_docstring(ast.parse((jobs / f"{job}.py").read_text(encoding="utf-8"))) or ""
            asks = any(one.arg == MODEL_FLAG for one in call.keywords)
            lines.append(_row(f"`{job}`", "yes" if asks else "", says.splitlines()[0].replace("<", "\\<")))
        lines += ["", ast.get_docstring(tree) or "", ""]
    return _join(lines)


def render_settings(settings: type[BaseModel]) -> str:
    lines = ["# Settings", NOTE, ""]
    lines += ["Environment variables of every process: Airflow's own, and through it of each Spark driver."]
    lines += ["A variable with our prefix that is not listed here is an error. Those of the group `llm` are"]
    lines += ["set by the Airflow connection `persona_hub_llm`, which goes before the environment.", ""]
    return _join([*lines, *_describe_settings(settings, ())])


def _describe_table(table: Table) -> Iterator[str]:
    yield f"- Key: {_list(table.key)}"
    yield f"- Clustered by: {_list(table.cluster)}" if table.cluster else "- Not clustered: also written without Spark"
    yield f"- Change data feed: {'on' if table.change_feed else 'off'}"
    yield from (f"- Constraint `{name}`: `{rule}`" for name, rule in table.checks.items())
    yield from ("", "| column | type | null | form | what it is |", "| --- | --- | --- | --- | --- |")
    for column in table.columns:
        null = "yes" if column.nullable else "no"
        yield _row(f"`{column.name}`", column.type, null, ", ".join(_describe_form(column)), column.doc)


def _describe_form(column: Column) -> Iterator[str]:
    if column.length:
        low, high = column.length
        yield f"{low} characters" if low == high else f"{low} to {high} characters"
    if column.pattern:
        yield f"matches `{column.pattern}`"


def _describe_settings(model: type[BaseModel], place: tuple[str, ...]) -> Iterator[str]:
    groups = []
    yield from ((model.__doc__ or "").strip(), "", "| variable | default | what it is |", "| --- | --- | --- |")
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            groups.append((name, kind))
            continue
        choices = f"one of {', '.join(get_args(kind))}" if get_origin(kind) is Literal else ""
        default = "unset" if field.default in (None, "") else f"`{_format_value(field.default)}`"
        says = "; ".join(text for text in (field.description, choices) if text)
        yield _row(f"`{PREFIX}{'__'.join((*place, name)).upper()}`", default, says)
    for name, kind in groups:
        yield from ("", f"## {'.'.join((*place, name))}", "")
        yield from _describe_settings(kind, (*place, name))


def _format_value(value: object) -> str:
    """As the variable takes it."""
    return json.dumps(value) if isinstance(value, bool | tuple | dict) else str(value)


def _find_jobs(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """The Spark jobs in a DAG file: `run_job(<job>, ...)`, or an operator's keyword `job`; a text or a stage's name."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        is_run = isinstance(call.func, ast.Name) and call.func.id == "run_job"
        for value in call.args[:1] if is_run else [one.value for one in call.keywords if one.arg == "job"]:
            if isinstance(value, ast.Constant):
                yield str(value.value), call
            elif isinstance(value, ast.Name) and hasattr(stages, value.id):
                yield getattr(stages, value.id), call


def _find_calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == name]
    return iter(sorted(found, key=lambda call: call.lineno))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _anchor(title: str) -> str:
    return title.lower().replace(".", "")


def _join(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.docs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is stale")
    parser.add_argument("--folder", type=Path, default=DOCS, help="where the pages lie; docs/ if unset")
    chosen = parser.parse_args(arguments)
    pages = build_pages()
    if not chosen.check:
        write_pages(chosen.folder, pages)
        return 0
    stale = find_stale(chosen.folder, pages)
    for name, diff in stale.items():
        print("\n".join(diff))
        print(f"{chosen.folder / name} is not what the code says. To do: make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
