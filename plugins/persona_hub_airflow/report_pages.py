"""Estimates and Data Docs in Airflow's own server, for whoever may read its task logs.

What these pages show came from the web and from models: no script of theirs runs, and nothing is loaded from elsewhere
(Data Docs bring both). So the first page of Data Docs, which its scripts would fill, is replaced by a list.
"""

from __future__ import annotations

import heapq
from pathlib import Path
from urllib.parse import quote

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from jinja2 import Environment

from persona_hub.settings import load_settings

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".gif": "image/gif",
    ".ico": "image/x-icon",
    ".otf": "font/otf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"
LIST_DEPTH = 3  # a snapshot, a number and a table: what lies above may hold many thousands of pages
LIST_LENGTH = 200
LIST = Environment(autoescape=True).from_string(
    """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{{ place }}</title>
<h1>{{ place }}</h1>
<ul>
  {%- for name, href in pages %}
  <li><a href="{{ href }}">{{ name }}</a>
  {%- endfor %}
</ul>
"""
)


def build_app() -> FastAPI:
    """The application; Airflow mounts it under `links.PREFIX`. Plugin applications guard themselves."""
    guard = Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS))
    app = FastAPI(title="Persona Hub reports", dependencies=[guard], docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/{place:path}")
    def show_report(place: str, request: Request) -> Response:
        found = find_report(Path(load_settings().reports), place)
        if found is None:
            raise HTTPException(404, "There is no such report", headers=HEADERS)
        if found.is_file() and found.name != INDEX:
            return FileResponse(found, headers=HEADERS | {"Content-Type": TYPES[found.suffix]})
        if found.is_dir() and not place.endswith("/"):
            return RedirectResponse(quote(request.url.path) + "/", headers=HEADERS)
        pages = list_pages(found if found.is_dir() else found.parent)
        return HTMLResponse(LIST.render(place=place.rstrip("/"), pages=pages), headers=HEADERS)

    return app


def find_report(reports: Path, place: str) -> Path | None:
    """The file or folder that is meant; None where it is no report, or lies elsewhere, by a link too."""
    try:
        root = reports.resolve()
        found = (root / place.strip("/")).resolve()
        inside = found.relative_to(root)
        if found.is_file():
            return found if found.suffix in TYPES else None
        return found if found.is_dir() and len(inside.parts) >= LIST_DEPTH else None
    except (ValueError, OSError, RuntimeError):  # outside, no name of a file, a circle of links
        return None


def list_pages(folder: Path) -> list[tuple[str, str]]:
    """Name and relative address of the newest pages of a folder and those in it, newest first."""
    pages = (page for page in folder.rglob("*.html") if page.name != INDEX)
    newest = heapq.nlargest(LIST_LENGTH, pages, key=lambda page: page.stat().st_mtime)
    names = [page.relative_to(folder).as_posix() for page in newest]
    return [(name, quote(name)) for name in names]
