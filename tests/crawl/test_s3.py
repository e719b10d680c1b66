"""Where an object lies, and how a request for it is signed; a real S3 server reads it in tests/soak/test_s3.py."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from crawl_server import answer, lead_to, make_access, run_crawl_server

from persona_hub.crawl.files import open_file
from persona_hub.crawl.s3 import Signer, find_object, find_signer
from persona_hub.errors import SettingsError, SourceError

NAMES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION",
    "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
)  # fmt: skip
URL = "https://crawl.s3.eu-central-1.amazonaws.com/a%20b/%C3%A9%2B.warc.gz"
MOMENT = datetime(2026, 11, 22, 12, 30, 45, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.mark.parametrize(
    ("token", "names", "signature"),
    [
        ("", "host;x-amz-content-sha256;x-amz-date", "55d5450b5012bc95587908411e0e78d3f35f01e290d7c4ae65c488140378b1d0"),
        (
            "tok",
            "host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
            "915611866df5a91467b9e447e97dd3b3ebbceec049e89a2c963969fc75f5c320",
        ),
    ],
)
def test_signature_is_that_of_botocore(token: str, names: str, signature: str) -> None:
    headers = Signer("AKID", "SECRET/+x", token, "eu-central-1").sign(URL, MOMENT)
    assert headers["x-amz-date"] == "20261122T123045Z"
    assert headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKID/20261122/eu-central-1/s3/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


def test_object_is_addressed_by_host_or_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert find_object("s3://crawl", "a b/é+.warc.gz") == URL
    assert find_object("s3://my.crawl/x/", "y") == "https://s3.eu-central-1.amazonaws.com/my.crawl/x/y"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:7070/")
    assert find_object("s3://crawl/x", "y%41") == "http://127.0.0.1:7070/crawl/x/y%2541"


def test_credentials_come_from_variables_or_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_signer() == Signer()
    assert Signer().sign(URL) == {}
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = se%cret\n"
        "[other]\naws_access_key_id = B\naws_secret_access_key = x\naws_session_token = t\n"
    )
    assert find_signer() == Signer("A", "se%cret", "", "us-east-1")
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert find_signer() == Signer("B", "x", "t", "us-east-1")
    monkeypatch.setenv("AWS_PROFILE", "third")
    with pytest.raises(SettingsError, match="no key for the profile 'third'"):
        find_signer()
    (tmp_path / "credentials").write_text("aws_secret_access_key = hush\n")
    with pytest.raises(SettingsError, match="credentials cannot be read") as raised:
        find_signer()
    assert "hush" not in str(raised.value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "C")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    assert find_signer() == Signer("C", "hush", "", "us-east-1")
    assert "hush" not in repr(find_signer())


def test_variable_may_end_in_a_line_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x\n")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t\r\n")
    assert find_signer() == Signer("A", "x", "t", "us-east-1")


def test_header_that_cannot_be_sent_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_crawl_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
        for token in ("hush\nhush", "hush€"):
            monkeypatch.setenv("AWS_SESSION_TOKEN", token)
            with pytest.raises(SourceError, match="goes with a header that cannot be sent") as raised:
                open_file("s3://crawl", "x.wet", make_access(tmp_path, max_connections=1))
            assert "hush" not in str(raised.value)
        assert server.asked == []


def test_host_is_signed_as_it_is_sent() -> None:
    plain = Signer("A", "x").sign("http://host.example/b/k", MOMENT)
    assert Signer("A", "x").sign("http://HOST.example:80/b/k", MOMENT) == plain
    assert Signer("A", "x").sign("http://host.example:443/b/k", MOMENT) != plain


def test_endpoint_holds_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:hush@host.example")
    with pytest.raises(SourceError, match="no credentials belong into an address") as raised:
        find_object("s3://crawl", "x")
    assert "hush" not in str(raised.value)


def test_signature_is_not_carried_to_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
    with run_crawl_server() as server, run_crawl_server() as other:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        other.files["/b.wet"] = b"WARC"
        server.spoil("/crawl/a.wet", lead_to(f"{other.url}/b.wet"))
        with open_file("s3://crawl", "a.wet", make_access(tmp_path)) as stream:
            assert stream.read() == b"WARC"
        assert "Authorization" in server.asked[0].headers
        assert "Authorization" not in other.asked[0].headers


def test_refusal_of_a_bucket_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_crawl_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.files["/crawl/x.wet"] = b"WARC"
        server.spoil("/crawl/x.wet", answer(403), answer(503))
        with pytest.raises(SourceError, match=r"/crawl/x\.wet answered 403 Forbidden.*AWS_ACCESS_KEY_ID"):
            open_file("s3://crawl", "x.wet", make_access(tmp_path))
        with open_file("s3://crawl", "x.wet", make_access(tmp_path)) as stream:
            assert stream.read() == b"WARC"
        assert len(server.asked) == 3
        assert "Authorization" not in server.asked[-1].headers
