"""The library as a zip for the executors (py_files); they import from it, prompts included."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from tempfile import NamedTemporaryFile

SUFFIXES = (".py", ".toml")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold: the same sources give the same bytes


def build_library_zip(package: Path, folder: Path) -> Path:
    """Packs a package, unless the very same content lies there already.

    Args:
        package: the package's folder; its name is the import name.
        folder: where the zip goes; made if missing.

    Returns:
        `folder/<package>-<hash of names and contents>.zip`; a running driver keeps the one that it started with.
    """
    sources = sorted(path for path in package.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    contents = [(f"{package.name}/{path.relative_to(package).as_posix()}", path.read_bytes()) for path in sources]
    digest = hashlib.blake2b(digest_size=8)
    for name, content in contents:
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    target = folder / f"{package.name}-{digest.hexdigest()}.zip"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with (
        NamedTemporaryFile(dir=folder, prefix=f".{target.name}.", delete=False) as file,
        zipfile.ZipFile(file, "w") as archive,
    ):
        for name, content in contents:
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
    os.chmod(file.name, 0o644)
    os.replace(file.name, target)
    return target
