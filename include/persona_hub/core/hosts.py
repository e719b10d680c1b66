"""Hosts of URLs: the registered domain that a page belongs to, and lists of hosts that are not read."""

from __future__ import annotations

import ipaddress
import re
from functools import cache, lru_cache
from urllib.parse import unquote

from publicsuffixlist import PublicSuffixList

from persona_hub.errors import SettingsError

# Not urlsplit: it is slow, and raises on what old crawls hold. A backslash ends the host, as browsers have it.
_AUTHORITY = re.compile(r"\s*[a-z][a-z0-9+.-]*://([^/?#\\]*)", re.IGNORECASE)
MAX_HOST = 255
"""Characters; the domain name system has no longer names (RFC 1035, section 2.3.4)."""
_HOST = re.compile(r"[^\s/:@\\?#]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")


def find_host(url: str) -> str:
    """The host of a URL: lower case, punycode, without user, port and final dot; "" where there is none, or no such host can be."""
    found = _AUTHORITY.match(url)
    if not found:
        return ""
    host = found.group(1).rpartition("@")[2]
    if len(host) > MAX_HOST:  # of a hostile URL
        return ""
    host = _normalize_host(host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0])
    return host if len(host) <= MAX_HOST else ""  # punycode is longer


def find_domain(url: str) -> str:
    """The registered domain of a URL, as in `example.co.uk`.

    By the ICANN part of the public suffix list, as Common Crawl's own column `url_host_registered_domain` has it: so
    all of `blogspot.com` is one domain. An address, a host of one label and a bare suffix stand for themselves.

    Returns:
        The domain in punycode, an IP address without brackets, or "" where the URL has no host.
    """
    return _find_registered(find_host(url))


def is_blocked(host: str, blocked: frozenset[str]) -> bool:
    """Whether the host, one of `find_host`, or a domain above it is on the list."""
    while host:
        if host in blocked:
            return True
        host = host.partition(".")[2]
    return False


def read_blocked_hosts(path: str) -> frozenset[str]:
    """Reads a list of hosts, one a line.

    What follows a `#` is a comment. Lines in the manner of a hosts file (`0.0.0.0 bad.example`) and names with a
    leading `*.` or `.` are taken too: so are most published lists of adult and spam hosts written.

    Args:
        path: the file, in UTF-8; "" for no list.

    Raises:
        SettingsError: the file cannot be read, or a line is no host.
    """
    if not path:
        return frozenset()
    try:
        with open(path, encoding="utf-8-sig") as stream:
            lines = stream.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The list of blocked hosts {path} cannot be read: {error}",
            wanted="a text file with one host a line",
            cure="correct PERSONA_HUB_CRAWL__RULES__BLOCKED_HOSTS, or unset it",
        ) from error
    hosts = set()
    for number, line in enumerate(lines, 1):
        names = line.partition("#")[0].split()
        if len(names) > 1 and _is_address(names[0]):
            names = names[1:]
        for name in names:
            host = name.removeprefix("*").removeprefix(".")
            if len(names) > 1 or not _HOST.fullmatch(host):
                raise SettingsError(
                    f"Line {number} of {path} is no host: {line.strip()[:80]}",
                    wanted="a name as in bad.example, without https:// and path",
                    cure="correct the line, or set # before it",
                )
            hosts.add(_normalize_host(host))
    return frozenset(hosts)


@lru_cache(65_536)
def _find_registered(host: str) -> str:
    if not host or _is_address(host):
        return host
    return _load_suffixes().privatesuffix(host) or host


@lru_cache(65_536)
def _normalize_host(host: str) -> str:
    host = (unquote(host) if "%" in host else host).strip().rstrip(".").lower()
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:  # a label too long, or letters that no registry takes: still one name for one host
        return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@cache
def _load_suffixes() -> PublicSuffixList:
    return PublicSuffixList(only_icann=True)  # a tenth of a second: not before the first URL
