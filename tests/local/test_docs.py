"""The generated pages: what the code describes stands in them, and a change in the code makes them stale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from local.docs import build_pages, find_stale, main, render_dags, render_settings, render_tables, write_pages
from persona_hub.settings import load_settings, setting_names
from persona_hub.synthesis import registry
from persona_hub.tables import FIXED
from persona_hub.tables.gold import task_table


def read_rows(page: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]


def test_a_fresh_write_passes_the_check(tmp_path: Path) -> None:
    assert main(["--folder", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dags.md", "settings.md", "tables.md"]
    assert main(["--check", "--folder", str(tmp_path)]) == 0


def test_a_page_edited_by_hand_is_named_with_the_cure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pages(tmp_path, build_pages())
    page = tmp_path / "settings.md"
    page.write_text(page.read_text().replace("words in such a run", "anything"))
    assert main(["--check", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.err == f"{page} is not what the code says. To do: make docs\n"
    assert "-| `PERSONA_HUB_DEDUP__NGRAM` | `8` | anything |" in said.out.splitlines()
    assert page.read_text().count("anything") == 1  # checking writes nothing


def test_a_missing_page_is_stale(tmp_path: Path) -> None:
    pages = build_pages()
    write_pages(tmp_path, pages)
    (tmp_path / "dags.md").unlink()
    assert list(find_stale(tmp_path, pages)) == ["dags.md"]


def test_a_changed_description_is_noticed(tmp_path: Path) -> None:
    write_pages(tmp_path, build_pages())
    first, *others = FIXED
    changed = replace(first, columns=(replace(first.columns[0], doc="Something else"), *first.columns[1:]))
    pages = build_pages() | {"tables.md": render_tables([changed, *others], registry.names())}
    stale = find_stale(tmp_path, pages)
    assert list(stale) == ["tables.md"]
    assert [line for line in stale["tables.md"] if "Something else" in line and line.startswith("+|")]


def test_every_column_of_every_table_is_there() -> None:
    page = render_tables(FIXED, registry.names())
    tables = [*FIXED, task_table("math")]
    assert [row[0] for row in read_rows(page)] == [f"`{column.name}`" for table in tables for column in table.columns]
    heads = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert heads == [*(table.name for table in FIXED), "gold.task_TYPE"]
    assert "`math`, `logic`, `instruction`, `knowledge`, `npc`, `tool`." in page


def test_a_bar_does_not_break_a_row() -> None:
    table = replace(FIXED[0], columns=(replace(FIXED[0].columns[0], pattern="^(a|b)$"), *FIXED[0].columns[1:]))
    assert r"matches `^(a\|b)$`" in render_tables([table], ["math"])


def test_every_setting_is_there_once() -> None:
    rows = read_rows(build_pages()["settings.md"])
    assert sorted(row[0].strip("`") for row in rows) == sorted(setting_names())
    assert [row[1:] for row in rows if row[0] == "`PERSONA_HUB_LLM__BASE_URL`"] == [
        ["unset", "address up to and including /v1; from the connection persona_hub_llm"]
    ]


def test_groups_of_settings_come_after_the_plain_ones() -> None:
    class Inner(BaseModel):
        """Inside."""

        size: int = Field(3, description="how large")

    class Outer(BaseModel):
        """Outside."""

        inner: Inner = Inner()
        name: str = Field("", description="what it is called")

    page = render_settings(Outer)
    assert [row[0] for row in read_rows(page)] == ["`PERSONA_HUB_NAME`", "`PERSONA_HUB_INNER__SIZE`"]
    assert page.index("Outside.") < page.index("## inner") < page.index("Inside.")


def test_nested_groups_have_their_whole_name_and_defaults_are_as_the_variable_takes_them() -> None:
    page = build_pages()["settings.md"]
    heads = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert heads[:3] == ["crawl", "crawl.rules", "llm"]
    rows = {name.strip("`"): default.strip("`") for name, default, _ in read_rows(page)}
    assert rows["PERSONA_HUB_CRAWL__KINDS"] == '["wet"]'
    assert rows["PERSONA_HUB_CRAWL__RULES__LOREM_IPSUM"] == "true"
    assert rows["PERSONA_HUB_CRAWL__RULES__MAX_TOP_NGRAMS"] == "[0.2, 0.18, 0.16]"
    assert (rows["PERSONA_HUB_LLM__ASK_AGAIN"], rows["PERSONA_HUB_LLM__STAGES"]) == ("[]", "{}")
    given = {name: value for name, value in rows.items() if value != "unset"}
    assert load_settings(given) == load_settings({})


def test_dags_are_read_as_text(tmp_path: Path) -> None:
    dags, jobs = tmp_path / "dags", tmp_path / "spark_jobs"
    dags.mkdir()
    jobs.mkdir()
    (jobs / "first.py").write_text('"""a → b: what it does.\n\nMore."""\n')
    (jobs / "second.py").write_text('"""b → c: and then."""\n')
    (dags / "one.py").write_text(
        '"""### Title\n\nMakes it."""\nimport nothing_of_that_name\n'
        'with DAG("one", schedule=Nightly(7), catchup=False, max_active_runs=2):\n'
        '    chain(run_job("first", uses_model=True), run_job("second"))\n'
    )
    assert render_dags(dags, jobs).splitlines()[5:] == [
        "## `one`",
        "",
        "File `dags/one.py`.",
        "",
        "- schedule: `Nightly(7)`",
        "- catchup: `False`",
        "- max_active_runs: `2`",
        "",
        "| Spark task | asks the model | what it does |",
        "| --- | --- | --- |",
        "| `first` | yes | a → b: what it does. |",
        "| `second` |  | b → c: and then. |",
        "",
        "### Title",
        "",
        "Makes it.",
    ]


def test_this_checkouts_dags_are_there() -> None:
    heads = [line for line in build_pages()["dags.md"].splitlines() if line.startswith("## ")]
    names = ("extract_personas", "maintain_lake", "recompute_hub", "refresh_crawls", "synthesize_tasks")
    assert heads == [f"## `{name}`" for name in names]
