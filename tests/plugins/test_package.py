"""The zip of the library that executors import from."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import persona_hub
from persona_hub_airflow.package import build_library_zip

LIBRARY = Path(persona_hub.__file__).parent


def make_package(folder: Path) -> Path:
    package = folder / "toy"
    (package / "prompts").mkdir(parents=True)
    (package / "__pycache__").mkdir()
    (package / "__init__.py").write_text("x = 1\n")
    (package / "prompts" / "math.toml").write_text("a = 1\n")
    (package / "notes.md").write_text("not shipped")
    (package / "__pycache__" / "toy.pyc").write_bytes(b"not shipped")
    return package


def test_zip_holds_sources_and_prompts_only(tmp_path: Path) -> None:
    target = build_library_zip(make_package(tmp_path), tmp_path / "run")
    assert zipfile.ZipFile(target).namelist() == ["toy/__init__.py", "toy/prompts/math.toml"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == [target.name]


def test_same_sources_give_the_same_file_and_bytes(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    first, second = (build_library_zip(package, tmp_path / name) for name in ("one", "two"))
    os.utime(package / "__init__.py", (0, 0))
    third = build_library_zip(package, tmp_path / "three")
    assert first.name == second.name == third.name
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


def test_changed_source_gives_another_name_and_leaves_the_old(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    old = build_library_zip(package, tmp_path)
    (package / "prompts" / "math.toml").write_text("a = 2\n")
    new = build_library_zip(package, tmp_path)
    assert new != old and old.exists() and new.exists()


def test_every_folder_of_the_library_imports_from_the_zip(tmp_path: Path) -> None:
    """A folder without `__init__.py` is found on disk, but not in a zip."""
    bare = {path.parent for path in LIBRARY.rglob("*.py")} - {path.parent for path in LIBRARY.rglob("__init__.py")}
    assert bare == set()
    target = build_library_zip(LIBRARY, tmp_path)
    code = f"import sys; sys.path.insert(0, {str(target)!r}); import persona_hub.crawl.calendar as c; print(c.__file__)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{target}/persona_hub/crawl/calendar.py"
