"""An http(s) file as a stream that survives a broken connection.

A connection that ends early must not look like a short file: the bytes are counted against Content-Length, and what is
missing is asked for with a Range. Only standard library; one file at a time is read, so a client with pools gains nothing.
"""

from __future__ import annotations

import http.client
import io
import random
import time
import urllib.error
import urllib.request
from typing import Any

from persona_hub.errors import SourceError

USER_AGENT = "persona-hub (reads Common Crawl; Python urllib)"
TIMEOUT_S = 60.0
ATTEMPTS = 4
BACKOFF_S = 0.5


class HttpStream(io.RawIOBase):
    """The body of a GET, read forward only.

    Raises:
        SourceError: not there, not let in, or still broken after `ATTEMPTS` tries.
    """

    def __init__(self, url: str) -> None:
        self._url, self._position = url, 0
        self._response: http.client.HTTPResponse | None = self._open()
        length = self._response.headers.get("Content-Length")
        self._length = int(length) if length and length.isdigit() else None
        self.content_type = self._response.headers.get_content_type()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        for attempt in range(ATTEMPTS):
            try:
                response = self._response = self._response or self._open()
                count = response.readinto(buffer)
            except (http.client.HTTPException, OSError) as error:
                fault = str(error) or type(error).__name__
            else:
                self._position += count
                if count or self._length is None or self._position >= self._length:
                    return count
                fault = f"the connection ended after {self._position} of {self._length} bytes"
            self._drop()
            _wait(attempt)
        raise SourceError(
            f"Reading {self._url} broke off: {fault}", cure="see whether the host is well, then run again"
        )

    def close(self) -> None:
        self._drop()
        super().close()

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _open(self) -> http.client.HTTPResponse:
        headers = {"User-Agent": USER_AGENT} | ({"Range": f"bytes={self._position}-"} if self._position else {})
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310 - http(s) by files.is_url
        for attempt in range(ATTEMPTS):
            try:
                response = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
                break
            except urllib.error.HTTPError as error:
                error.close()
                fault = f"answered {error.code} {error.reason}"
                if error.code < 500 and error.code != 429:
                    raise SourceError(f"{self._url} {fault}", wanted="a file there", cure=_CURE) from None
            except (http.client.HTTPException, OSError) as error:
                fault = f"cannot be reached: {getattr(error, 'reason', error) or type(error).__name__}"
            _wait(attempt)
        else:
            raise SourceError(f"{self._url} {fault}, {ATTEMPTS} times", wanted="an answer", cure=_CURE)
        if self._position and response.status != http.client.PARTIAL_CONTENT:
            response.close()
            raise SourceError(
                f"Reading {self._url} broke off after {self._position} bytes, and the host gives no ranges",
                cure="run again, or copy the files to a folder first",
            )
        return response


_CURE = "check the address and whether the host is well"


def _wait(attempt: int) -> None:
    if attempt + 1 < ATTEMPTS:
        time.sleep(BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
