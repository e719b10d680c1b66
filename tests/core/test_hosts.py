"""Hosts, registered domains, and the list of hosts that are not read."""

import time
from pathlib import Path

import pytest

from persona_hub.core.hosts import find_domain, find_host, is_blocked, read_blocked_hosts
from persona_hub.errors import SettingsError


@pytest.mark.parametrize(
    ("url", "host", "domain"),
    [
        ("https://www.Example.CO.UK/a?b#c", "www.example.co.uk", "example.co.uk"),
        ("http://user:p@ss@a.b.example:8080", "a.b.example", "b.example"),
        ("http://me.blogspot.com/2014/05/", "me.blogspot.com", "blogspot.com"),
        ("http://www.city.kawasaki.jp/", "www.city.kawasaki.jp", "city.kawasaki.jp"),
        ("http://例子.中国/页", "xn--fsqu00a.xn--fiqs8s", "xn--fsqu00a.xn--fiqs8s"),
        ("http://www.xn--fsqu00a.xn--fiqs8s/", "www.xn--fsqu00a.xn--fiqs8s", "xn--fsqu00a.xn--fiqs8s"),
        ("http://www.B%C3%BCcher.de/", "www.xn--bcher-kva.de", "xn--bcher-kva.de"),
        ("http://192.0.2.7:80/", "192.0.2.7", "192.0.2.7"),
        ("http://[2001:DB8::1]:80/", "2001:db8::1", "2001:db8::1"),
        ("http://www.example.com./", "www.example.com", "example.com"),
        ("http://www.example.com\\@evil.example/", "www.example.com", "example.com"),
        ("http://localhost/", "localhost", "localhost"),
        ("http://co.uk/", "co.uk", "co.uk"),
        ("http://a.b.unlisted/", "a.b.unlisted", "b.unlisted"),
        ("http:///path", "", ""),
        ("dns:www.example.com", "", ""),
        ("filedesc://x.arc.gz", "x.arc.gz", "arc.gz"),
        ("", "", ""),
        ("http://[", "", ""),
        ("http://..a../", "..a", "..a"),
        ("http://" + "ü" * 70 + ".de/", "ü" * 70 + ".de", "ü" * 70 + ".de"),
    ],
)
def test_host_and_domain(url: str, host: str, domain: str) -> None:
    assert (find_host(url), find_domain(url)) == (host, domain)


def test_list_blocks_hosts_and_all_below(tmp_path: Path) -> None:
    path = tmp_path / "blocked.txt"
    path.write_text("\ufeff# adult\nbad.example # since May\n\n0.0.0.0 worse.example\n*.bücher.example\n192.0.2.7\n", "utf-8")
    blocked = read_blocked_hosts(str(path))
    assert blocked == {"bad.example", "worse.example", "xn--bcher-kva.example", "192.0.2.7"}
    urls = ["http://bad.example/", "http://a.b.BAD.example:8/", "http://www.bücher.example/", "http://192.0.2.7/"]
    assert all(is_blocked(find_host(url), blocked) for url in urls)
    free = ["http://notbad.example/", "http://example/", "http://bad.example.com/", "", "http://1.192.0.2.8/"]
    assert not any(is_blocked(find_host(url), blocked) for url in free)


def test_host_longer_than_any_name_is_none() -> None:
    """Each label of one costs a look at the list: of a million characters that took a minute and more."""
    longest = "a." * 122 + "bad.example"
    assert find_host(f"http://{longest}/") == longest
    assert is_blocked(longest, frozenset({"bad.example"}))
    begun = time.process_time()
    for host in (f"b.{longest}", "a." * 500_000 + "bad.example", "ü." * 500_000 + "example", "ü." * 40 + longest[80:]):
        assert find_host(f"http://{host}/") == "" == find_domain(f"http://{host}/")
    assert time.process_time() - begun < 0.5


def test_no_list_blocks_nothing() -> None:
    assert read_blocked_hosts("") == frozenset()


@pytest.mark.parametrize("line", ["https://bad.example/", "bad.example/path", "bad example", "a.example b.example"])
def test_line_that_is_no_host_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "blocked.txt").write_text(f"good.example\n{line}\n")
    with pytest.raises(SettingsError, match=r"Line 2 of .*blocked\.txt is no host: .* Wanted: a name as in bad\.example"):
        read_blocked_hosts(str(tmp_path / "blocked.txt"))


def test_list_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"b\xfccher.example\n")
    for name in ("missing.txt", "latin.txt", "."):
        with pytest.raises(SettingsError, match="PERSONA_HUB_CRAWL__RULES__BLOCKED_HOSTS"):
            read_blocked_hosts(str(tmp_path / name))
