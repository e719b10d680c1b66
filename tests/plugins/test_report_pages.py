"""Reports in Airflow's own server: its whole application, with our plugin loaded as Airflow loads it.

Only the table of revoked tokens is made: nothing else here asks the database. What a browser makes of the pages, and
that the login's cookie reaches them, shows only in a running Airflow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.api_fastapi.app import create_app, get_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.revoked_token import RevokedToken
from airflow.settings import engine
from fastapi.testclient import TestClient

from persona_hub_airflow.links import PREFIX
from persona_hub_airflow.report_pages import LIST_LENGTH

ESTIMATE = "estimates/CC-MAIN-2026-45/00001/extract_candidates/0a.html"
DOCS = "CC-MAIN-2026-45/00001/gold.personas"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    RevokedToken.__table__.create(bind=engine, checkfirst=True)
    yield TestClient(create_app(apps="core"), base_url="http://127.0.0.1")
    purge_cached_app()


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERSONA_HUB_HOME", str(tmp_path))
    write(tmp_path / "reports" / ESTIMATE, "an estimate")
    write(tmp_path / "reports" / DOCS / "index.html", HOSTILE)
    write(tmp_path / "reports" / DOCS / "validations/rows one/rows.html", HOSTILE)
    write(tmp_path / "reports" / DOCS / "static/styles/a.css", "p {}")
    write(tmp_path / "secret.html", "not a report")
    return tmp_path / "reports"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def login(role: str | None) -> dict[str, str]:
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="u", role=role))
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("place", [ESTIMATE, f"{DOCS}/", "", "no/such"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer forged"}, 403), ({"Cookie": "_token=forged"}, 403), ("no role", 403)],
)
def test_strangers_see_nothing(
    client: TestClient, reports: Path, place: str, headers: dict[str, str] | str, status: int
) -> None:
    asked = login(None) if isinstance(headers, str) else headers
    answer = client.get(f"{PREFIX}/{place}", headers=asked)
    assert answer.status_code == status
    assert "an estimate" not in answer.text and "rows.html" not in answer.text


@pytest.mark.parametrize("page", ["docs", "redoc", "openapi.json"])
def test_the_application_describes_itself_to_nobody(client: TestClient, page: str) -> None:
    assert client.get(f"{PREFIX}/{page}").status_code == 401


def test_a_viewer_sees_estimates_by_header_and_by_cookie(client: TestClient, reports: Path) -> None:
    token = login("VIEWER")["Authorization"].removeprefix("Bearer ")
    for headers in (login("VIEWER"), {"Cookie": f"_token={token}"}):
        answer = client.get(f"{PREFIX}/{ESTIMATE}", headers=headers)
        assert (answer.status_code, answer.text) == (200, "an estimate")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_no_script_runs_and_nothing_is_loaded_from_elsewhere(client: TestClient, reports: Path) -> None:
    for place in (f"{DOCS}/validations/rows one/rows.html", f"{DOCS}/", "no/such", f"{DOCS}/static/styles/a.css"):
        answer = client.get(f"{PREFIX}/{place}", headers=login("VIEWER"))
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert not {"script-src", "connect-src", "object-src", "frame-src"} & set(policy)
        assert all("http" not in sources and "*" not in sources for sources in policy.values())
        assert policy["frame-ancestors"] == "'self'" and policy["form-action"] == policy["base-uri"] == "'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_data_docs_are_listed_newest_first_and_escaped(client: TestClient, reports: Path) -> None:
    name = "<img src=x onerror=alert(1)>#?.html"
    write(reports / DOCS / "validations" / name, "x")
    os.utime(reports / DOCS / "validations" / name, (1, 1))
    with_slash = client.get(f"{PREFIX}/{DOCS}/", headers=login("VIEWER"))
    assert with_slash.status_code == 200 and HOSTILE not in with_slash.text and "<img" not in with_slash.text
    links = [part.partition('"')[0] for part in with_slash.text.split('href="')[1:]]
    assert links == [
        "validations/rows%20one/rows.html",
        "validations/%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%23%3F.html",
    ]
    for link in links:
        assert client.get(f"{PREFIX}/{DOCS}/{link}", headers=login("VIEWER")).status_code == 200
    # The first page of Data Docs, to which each of their pages leads back, and the folder without its slash.
    assert client.get(f"{PREFIX}/{DOCS}/index.html", headers=login("VIEWER")).text.count("<li>") == 2
    assert client.get(f"{PREFIX}/{DOCS}", headers=login("VIEWER")).text == with_slash.text


def test_a_long_list_ends(client: TestClient, reports: Path) -> None:
    for number in range(LIST_LENGTH + 5):
        write(reports / DOCS / f"{number}.html", "x")
    assert client.get(f"{PREFIX}/{DOCS}/", headers=login("VIEWER")).text.count("<li>") == LIST_LENGTH


@pytest.mark.parametrize(
    "place",
    [
        *("%2e%2e/secret.html", "..%2fsecret.html", "estimates/..%2f..%2fsecret.html", "//secret.html"),
        *("link.html", "out/secret.html", "%00", "a" * 5_000, "loop", "estimates", "CC-MAIN-2026-45/00001", ""),
        "CC-MAIN-2026-45/00001/gold.personas/data.json",
    ],
)
def test_nothing_but_reports_is_reached(client: TestClient, reports: Path, place: str) -> None:
    (reports / "link.html").symlink_to(reports.parent / "secret.html")
    (reports / "out").symlink_to(reports.parent)
    (reports / "loop").symlink_to(reports / "loop")
    write(reports / DOCS / "data.json", "{}")
    answer = client.get(f"{PREFIX}/{place}", headers=login("ADMIN"))
    assert answer.status_code == 404 and "not a report" not in answer.text


def test_absolute_paths_stay_inside(client: TestClient, reports: Path) -> None:
    answer = client.get(f"{PREFIX}/{reports.parent}/secret.html", headers=login("ADMIN"))
    assert answer.status_code == 404
