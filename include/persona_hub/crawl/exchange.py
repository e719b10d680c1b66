"""One request to an http(s) host: in its turn, through redirects, and what its answer means for us."""

from __future__ import annotations

import re
import ssl
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote, urljoin

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers

from persona_hub.crawl.access import Access, hide_secrets, split_url
from persona_hub.crawl.retries import Fault, parse_retry_after
from persona_hub.crawl.s3 import Signer
from persona_hub.crawl.turns import Turn, close_door, take_turn
from persona_hub.errors import NotThere, SettingsError, SourceError

MAX_REDIRECTS = 10
MAX_DIGITS = 18
_AGAIN = {403, 408, 421, 425, 429, 500, 502, 503, 504}
"""403 is how Common Crawl says that one asked too fast."""
_CURE = "check the address and whether the host is well"
_S3_CURE = "see to AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL"
_S3_CODE = re.compile(rb"<Code>(\w{1,80})</Code>")


@dataclass(frozen=True)
class Validators:
    """What tells one state of a file from another."""

    etag: str = ""
    date: str = ""

    def differs(self, other: Validators) -> bool:
        """Whether these two are certainly not the same bytes."""
        if self.etag and other.etag:
            return self.etag != other.etag
        return bool(self.date and other.date and self.date != other.date)

    def proves(self, other: Validators) -> bool:
        """Whether these two are certainly the same bytes."""
        return not self.differs(other) and bool((self.etag and other.etag) or (self.date and other.date))

    @property
    def for_range(self) -> str:
        """What If-Range takes: no weak ETag."""
        return self.etag if self.etag.startswith('"') else self.date

    @property
    def for_condition(self) -> dict[str, str]:
        """Headers of a request that is answered 304 where the file is still this one."""
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.date} if self.date else {}


class Exchange:
    """An answer whose body is still to be read. `close` gives the turn back.

    Attributes:
        status: 200, 206, 304 or 416; everything else was an error.
        length: bytes that the answer says its body has, or None.
        is_chunked: the body says itself where it ends.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, pool: urllib3.PoolManager, turn: Turn) -> None:
        self._response, self._pool, self._turn = response, pool, turn
        self.status = response.status
        self.headers = response.headers
        self.media_type = response.headers.get("Content-Type", "").partition(";")[0].strip() or "something"
        self.validators = Validators(response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))
        self.is_chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        self.length = _read_number(response.headers.get("Content-Length", ""))

    @property
    def span(self) -> tuple[int, int, int | None] | None:
        """First byte, end and whole length of the file, as Content-Range says; None where it says nothing clear."""
        unit, _, rest = self.headers.get("Content-Range", "").strip().partition(" ")
        span, _, total = rest.partition("/")
        first, last = map(_read_number, span.partition("-")[::2])
        if unit.lower() != "bytes" or first is None or last is None or last < first:
            return None
        return first, last + 1, _read_number(total)

    @property
    def total_if_beyond(self) -> int | None:
        """The file's length in an answer 416, `bytes */LENGTH`."""
        return _read_number(self.headers.get("Content-Range", "").rpartition("*/")[2])

    def read(self, size: int) -> bytes:
        """Waits for the next bytes and gives what is there, up to `size`; none at the end.

        Raises:
            Fault: the connection broke.
        """
        if not self._turn.renew():
            raise Fault("was not read for so long that its turn was over")
        try:
            return self._response.read1(size, decode_content=False)
        except (HTTPError, OSError) as error:
            raise Fault(f"broke off ({_describe(error)})") from None

    def read_message(self) -> bytes:
        """The beginning of what the host says of an error; nothing where that breaks off."""
        try:
            return self._response.read(4_096, decode_content=False)
        except (HTTPError, OSError):
            return b""

    def close(self) -> None:
        """Closes the connection."""
        try:
            self._response.close()
            self._pool.clear()
        finally:
            self._turn.release()


def ask(url: str, access: Access, headers: dict[str, str], signer: Signer | None = None) -> Exchange:
    """Sends a GET and follows redirects.

    Args:
        headers: besides those that go with each request.
        signer: signs the request for the host of an S3 bucket.

    Raises:
        Fault: worth another try.
        NotThere: 404 or 410.
        SourceError: any other answer that no further try changes.
        SettingsError: the host wants a contact, or the environment names a proxy that is none.
    """
    seen: list[str] = []
    place = url
    while True:
        exchange = _send(place, url, access, headers, signer)
        if exchange.status not in (301, 302, 303, 307, 308):
            return exchange
        target = exchange.headers.get("Location", "")
        exchange.close()
        seen.append(place)
        split_url(target)
        place = urljoin(place, target)
        if place in seen or len(seen) > MAX_REDIRECTS or not target or split_url(place).scheme not in ("http", "https"):
            raise SourceError(
                f"{hide_secrets(url)} leads in {len(seen)} redirects to {hide_secrets(place)!r}",
                wanted="a file at the end of them", cure=_CURE,
            )  # fmt: skip


def _send(place: str, asked: str, access: Access, headers: dict[str, str], signer: Signer | None) -> Exchange:
    parts = split_url(place)
    host = parts.netloc.rpartition("@")[2].lower()
    access.check_host(parts.hostname or "")
    headers = {"User-Agent": access.user_agent, "Accept-Encoding": "identity", "Connection": "close"} | headers
    pool = _open_pool(parts.scheme, host, access)
    turn = take_turn(host, access)
    try:
        if signer is not None and host == split_url(asked).netloc.lower():
            headers |= signer.sign(place)  # not before its turn: a signature ages
        response = pool.request(
            "GET", parts._replace(netloc=host).geturl(), headers=headers,
            preload_content=False, redirect=False, retries=False,
        )  # fmt: skip
    except BaseException as error:
        pool.clear()
        turn.release()
        if isinstance(error, HTTPError | OSError) and _is_bad_certificate(error):
            raise SourceError(
                f"{host} shows a certificate that is not trusted ({_describe(error)})",
                cure="see to the certificates of this machine (SSL_CERT_FILE), or check the address",
            ) from None
        if isinstance(error, ValueError):  # its message may hold a header, and so a token
            raise SourceError(
                f"{hide_secrets(asked)} is no address, or goes with a header that cannot be sent",
                wanted="an http(s) address", cure=_CURE,
            ) from None  # fmt: skip
        if isinstance(error, HTTPError | OSError):
            raise Fault(f"cannot be reached: {_describe(error)}") from None
        raise
    exchange = Exchange(response, pool, turn)
    try:
        _judge(exchange, hide_secrets(asked), host, access, signer is not None)
    except BaseException:
        exchange.close()
        raise
    return exchange


def _judge(exchange: Exchange, name: str, host: str, access: Access, is_bucket: bool) -> None:
    status = exchange.status
    if status in (200, 206, 304, 416, 301, 302, 303, 307, 308):
        return
    said = f"answered {status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else f"answered {status}"
    if status in (404, 410):
        raise NotThere(f"{name} {said}", wanted="a file there", cure=_CURE)
    if is_bucket and status in (400, 401, 403):
        code = _S3_CODE.search(exchange.read_message())
        raise SourceError(
            f"{name} {said}" + (f", {code[1].decode()}" if code else ""), wanted="leave to read it", cure=_S3_CURE
        )
    if status not in _AGAIN:
        raise SourceError(f"{name} {said}", wanted="a file there", cure=_CURE)
    pause_s = parse_retry_after(exchange.headers.get("Retry-After"))
    if pause_s:
        close_door(host, access, pause_s)
    raise Fault(said, pause_s)


def _open_pool(scheme: str, host: str, access: Access) -> urllib3.PoolManager:
    """One connection, through the proxy that the environment names (HTTPS_PROXY, NO_PROXY).

    Raises:
        SettingsError: what it names is no proxy that we can go through.
    """
    timeout = urllib3.Timeout(access.timeout_s)
    proxy = urllib.request.getproxies().get(scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        login = split_url(proxy)
        name = f"{unquote(login.username or '')}:{unquote(login.password or '')}"
        extra = make_headers(proxy_basic_auth=name) if login.username else None
        try:
            return urllib3.ProxyManager(proxy, proxy_headers=extra, num_pools=1, maxsize=1, timeout=timeout)
        except ValueError:  # its message holds the address, and so a password
            raise SettingsError(
                f"{scheme.upper()}_PROXY names no proxy that can be used",
                wanted="http://HOST:PORT or https://HOST:PORT",
                cure="correct the variable, or name the host in NO_PROXY",
            ) from None
    return urllib3.PoolManager(num_pools=1, maxsize=1, timeout=timeout)


def _read_number(text: str) -> int | None:
    """A number of bytes; None where it is none, or one of more digits than any file has bytes."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= MAX_DIGITS else None


def _is_bad_certificate(error: BaseException) -> bool:
    return any(isinstance(one, ssl.SSLCertVerificationError) for one in (error, error.__cause__, *error.args))


def _describe(error: BaseException) -> str:
    """What happened, without the objects that urllib3 names in its messages."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(error).rpartition(">: ")[2].rpartition("'): ")[2] or type(error).__name__
