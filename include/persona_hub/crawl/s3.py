"""Objects of an S3 bucket by plain HTTP: their address, and the signature of a request (AWS Signature Version 4).

Reading itself is that of crawl/fetch.py. pyarrow's own S3 client is no way to read what must be right: where an answer
breaks off inside its header, it hands out memory that nobody wrote as the object's bytes, without an error (26.0.1).

Key, secret, token, profile, region and endpoint are taken from the variables that every AWS client knows, and from its
file of credentials; they stay in the process that reads, and go into no plan. Without a key nothing is signed, as
public buckets allow. Roles that a machine or a pod has are not asked for: export their keys.
"""

from __future__ import annotations

import configparser
import hashlib
import hmac
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

from persona_hub.crawl.access import refuse_credentials, split_url
from persona_hub.errors import SettingsError

DEFAULT_REGION = "us-east-1"
_NO_BODY = hashlib.sha256(b"").hexdigest()
_UNRESERVED = "/-._~"
_DEFAULT_PORT = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class Signer:
    """Signs requests that have neither a query nor a body; without a key it leaves them as they are."""

    key: str = ""
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    region: str = DEFAULT_REGION

    def sign(self, url: str, now: datetime | None = None) -> dict[str, str]:
        """The headers that a GET of this address needs; they hold for 15 minutes."""
        if not self.key:
            return {}
        scheme, host, path, *_ = split_url(url)
        moment = f"{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        signed = {"host": host.lower().removesuffix(_DEFAULT_PORT.get(scheme, "")), "x-amz-content-sha256": _NO_BODY, "x-amz-date": moment}
        signed |= {"x-amz-security-token": self.token} if self.token else {}
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        request = f"GET\n{path}\n\n{lines}\n{names}\n{_NO_BODY}"
        scope = f"{moment[:8]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        key = f"AWS4{self.secret}".encode()
        for step in scope.split("/"):
            key = hmac.digest(key, step.encode(), "sha256")
        signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}".encode(), "sha256").hex()
        del signed["host"]  # the connection sends it
        return signed | {
            "Authorization": f"AWS4-HMAC-SHA256 Credential={self.key}/{scope}, SignedHeaders={names}, Signature={signature}"
        }


def find_object(base: str, path: str) -> str:
    """The address of an object, given the bucket (`s3://BUCKET/PREFIX`) and its path below that.

    Raises:
        SourceError: the endpoint holds credentials.
    """
    parts = split_url(base)
    bucket, key = parts.netloc, "/".join(filter(None, (parts.path.strip("/"), path)))
    endpoint = _read_variable("AWS_ENDPOINT_URL_S3") or _read_variable("AWS_ENDPOINT_URL")
    refuse_credentials(endpoint)
    if not endpoint and "." not in bucket:
        return f"https://{bucket}.s3.{_find_region()}.amazonaws.com/{quote(key, safe=_UNRESERVED)}"
    endpoint = endpoint or f"https://s3.{_find_region()}.amazonaws.com"  # a dot fits no certificate
    return f"{endpoint.rstrip('/')}/{quote(f'{bucket}/{key}', safe=_UNRESERVED)}"


def find_signer() -> Signer:
    """The signer that this process's credentials make.

    Raises:
        SettingsError: AWS_PROFILE names one that is not in the file, or the file is broken.
    """
    region = _find_region()
    if key := _read_variable("AWS_ACCESS_KEY_ID"):
        return Signer(key, _read_variable("AWS_SECRET_ACCESS_KEY"), _read_variable("AWS_SESSION_TOKEN"), region)
    file = os.path.expanduser(_read_variable("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    profile = _read_variable("AWS_PROFILE")
    profiles = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        profiles.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):  # its message would show a line of the file
        raise SettingsError(f"{file} cannot be read", wanted="profiles with keys", cure="correct it") from None
    found = profiles[profile or "default"] if profiles.has_section(profile or "default") else {}
    if profile and "aws_access_key_id" not in found:
        raise SettingsError(f"{file} has no key for the profile {profile!r}", cure="correct AWS_PROFILE or the file")
    if "aws_access_key_id" not in found:
        return Signer()
    secret, token = found.get("aws_secret_access_key") or "", found.get("aws_session_token") or ""
    return Signer(found["aws_access_key_id"], secret, token, region)


def _find_region() -> str:
    return _read_variable("AWS_REGION") or _read_variable("AWS_DEFAULT_REGION") or DEFAULT_REGION


def _read_variable(name: str) -> str:
    return os.environ.get(name, "").strip()  # files of secrets end in a line end, which no header can carry
