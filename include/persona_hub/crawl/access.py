"""How this project goes to hosts that are not its own: under which name, how often, how patiently."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from persona_hub.errors import SettingsError, SourceError
from persona_hub.settings import Settings

PROJECT = "persona-hub"
ASKS_FOR_CONTACT = "commoncrawl.org"
"""Common Crawl's people write to whom they would otherwise have to lock out."""


@dataclass(frozen=True)
class Access:
    """What a reader needs besides the address; a plain value, so that it goes to Spark's workers.

    Attributes:
        user_agent: sent with each request.
        has_contact: whether it says whom to write to.
        limits: folder of the shared limits, `_limits` of the lake.
        max_connections: open at one host, over all tasks of all runs.
        requests_per_second: sent to one host, over all tasks of all runs.
        timeout_s: seconds without a byte after which a connection is broken.
        max_attempts: tries of one file without progress in between.
        backoff_s: the first wait between two tries is at most this long; each further one may be twice as long.
    """

    user_agent: str
    has_contact: bool
    limits: Path
    max_connections: int
    requests_per_second: float
    timeout_s: float
    max_attempts: int
    backoff_s: float = 1.0

    def check_host(self, host: str) -> None:
        """Refuses to go nameless to a host that wants a contact.

        Raises:
            SettingsError: crawl.contact is empty and the host is one of Common Crawl's.
        """
        if not self.has_contact and f".{host.lower()}".endswith(f".{ASKS_FOR_CONTACT}"):
            raise SettingsError(
                f"{host} would be asked by somebody without an address",
                wanted="a mail or web address at which its people can reach you",
                cure="set PERSONA_HUB_CRAWL__CONTACT",
            )


def make_access(settings: Settings) -> Access:
    """Takes what the settings say of fetching.

    Raises:
        SettingsError: the contact cannot stand in a header.
    """
    crawl = settings.crawl
    contact = crawl.contact.strip()
    if not contact.isascii() or not contact.isprintable() or set(contact) & set("()"):
        raise SettingsError(
            f"The contact {contact!r} cannot stand in a User-Agent",
            wanted="a mail or web address in ASCII",
            cure="correct PERSONA_HUB_CRAWL__CONTACT",
        )
    return Access(
        user_agent=f"{PROJECT} ({contact})" if contact else PROJECT,
        has_contact=bool(contact),
        limits=Path(settings.lake) / "_limits",
        max_connections=crawl.max_connections,
        requests_per_second=crawl.requests_per_second,
        timeout_s=crawl.timeout_s,
        max_attempts=crawl.max_attempts,
    )


def hide_secrets(url: str) -> str:
    """The address as it may stand in a message: no password, no query (signed addresses carry keys there)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition(':')[0]}:…"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def refuse_credentials(address: str) -> None:
    """Refuses an address that may hold a secret: addresses are stored in the calendar and in tables, and shown.

    Raises:
        SourceError: it has a user, a password or, at a host, a query or fragment.
    """
    parts = split_url(address)
    at_host = parts.scheme in ("http", "https", "s3")
    port = parts.netloc.rpartition("]")[2].partition(":")[2]  # a password with a slash in it looks like a port
    if "@" in parts.netloc or (at_host and (parts.query or parts.fragment or not (port or "0").isdecimal())):
        raise SourceError(
            f"An address {parts.scheme}://… holds more than a host and a path: no credentials belong into an address, "
            "for it is stored and shown",
            wanted=f"{parts.scheme}://HOST/PATH, without user:password@, query or fragment",
            cure="take them out; for s3:// set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )


def split_url(url: str) -> SplitResult:
    """Takes an address apart.

    Raises:
        SourceError: it is none.
    """
    try:
        return urlsplit(url)
    except ValueError as error:
        raise SourceError(
            f"{hide_secrets(url)!r} is no address ({error})", wanted="an address", cure="correct it"
        ) from None
