"""An http(s) file as a stream that survives a broken connection.

A connection that ends early must not look like a short file: what came is counted against the file's length, and the
rest is asked for with a Range. Nothing is taken on trust after a break: the file must still be the same (ETag, date),
and the answer must begin with `OVERLAP` bytes that are here already.
"""

from __future__ import annotations

import io
import time
from typing import Any

from persona_hub.crawl.access import Access, hide_secrets
from persona_hub.crawl.exchange import Exchange, Validators, ask
from persona_hub.crawl.retries import Fault, Patience
from persona_hub.crawl.s3 import Signer
from persona_hub.errors import SourceError

OVERLAP = 1_024
LEAST_RATE = 1_024
"""Bytes a second, on average over a time-out, below which a connection counts as broken."""
CHUNK = 131_072


class HttpStream(io.RawIOBase):
    """The body of a GET, read forward only; holds no more than one chunk.

    Args:
        url: the file's address.
        access: how to go to its host.
        start: first byte that is wanted.
        stop: end of what is wanted; None: the file's end.
        known: reads nothing, and sets `unchanged`, where the file still has these.
        signer: signs the requests, where it is an object of an S3 bucket.

    Attributes:
        total: bytes of the whole file, once known.
        validators: what the host said of its state.

    Raises:
        NotThere, SourceError, SettingsError: as `open_file` says; while reading: broken for good, or another file now.
    """

    def __init__(
        self,
        url: str,
        access: Access,
        start: int = 0,
        stop: int | None = None,
        known: Validators | None = None,
        signer: Signer | None = None,
    ) -> None:
        self._url, self._access, self._start, self._stop = url, access, start, stop
        self._name = hide_secrets(url)
        self._patience = Patience(self._name, access)
        self._position = start
        self._tail = b""  # the last bytes before `_position`, at most OVERLAP
        self._to_skip = 0  # bytes of the answer that lie before `_tail`
        self._to_check = b""  # what the answer must give next, because it is here already
        self.total: int | None = None
        self._exchange: Exchange | None = None
        self._slow_s, self._slow_bytes = 0.0, 0
        self._known, self._signer, self._asks_range = known, signer, True
        self.validators = Validators()
        self.unchanged = False
        self.media_type = ""
        while not self.media_type and not self._has_ended():
            self._go_on()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._has_ended() and len(buffer):
            data = self._go_on(min(len(buffer), CHUNK))
            if not data:
                continue
            self._position += len(data)
            self._tail = (self._tail + data)[-OVERLAP:]
            self._patience.gain(len(data))
            buffer[: len(data)] = data
            if self._has_ended():
                self._drop()  # somebody else's turn
            return len(data)
        self._drop()
        return 0

    def close(self) -> None:
        self._drop()
        super().close()

    def _has_ended(self) -> bool:
        end = self.total if self._stop is None else self._stop if self.total is None else min(self._stop, self.total)
        return end is not None and self._position >= end

    def _go_on(self, size: int = 0) -> bytes:
        """Connects where there is no connection, else receives; b"" where that has brought nothing new yet."""
        try:
            if self._exchange is not None:
                return self._receive(size)
            self._connect()
        except Fault as fault:
            self._drop()
            self._patience.spend(fault)
        except BaseException:
            self._drop()
            raise
        return b""

    def _drop(self) -> None:
        exchange, self._exchange = getattr(self, "_exchange", None), None
        if exchange is not None:
            exchange.close()

    def _connect(self) -> None:
        """Asks for the bytes from `_position` on, and a little before that to compare."""
        begin = self._position - len(self._tail)
        # The first request names a range too: its answer says the file's length a second time.
        headers = {"Range": f"bytes={begin}-{'' if self._stop is None else self._stop - 1}"} if self._asks_range else {}
        if self._tail and self.validators.for_range:
            headers["If-Range"] = self.validators.for_range
        if self._known is not None and not self._tail:
            headers |= self._known.for_condition
        exchange = ask(self._url, self._access, headers, self._signer)
        try:
            self._accept(exchange, begin)
        except BaseException:
            exchange.close()
            raise
        if self._has_ended():
            return exchange.close()
        self._exchange = exchange
        self.media_type = exchange.media_type
        self._slow_s, self._slow_bytes = 0.0, 0
        return None

    def _accept(self, exchange: Exchange, begin: int) -> None:
        """Finds out which bytes come, and whether they are of the file that was begun."""
        asked = None if self._tail else self._known
        if asked is not None and (exchange.status == 304 or asked.proves(exchange.validators)):
            self.unchanged, self.total = True, self._position
            return
        if self.media_type and exchange.status == 200 and exchange.media_type != self.media_type:
            raise Fault(f"gave {exchange.media_type} when it was asked again, and {self.media_type} before")
        if self.validators.differs(exchange.validators):
            raise SourceError(
                f"{self._name} has changed after {self._position} bytes of it were read",
                wanted="the file that was begun",
                cure="run again: it is read anew",
            )
        if exchange.status == 416:
            total, first = exchange.total_if_beyond, None
            self._asks_range = total is not None or begin > 0  # some say so of an empty file, and not that it is empty
            if total is None or total > self._position:
                raise Fault(f"refuses the range from byte {begin} on")
        elif exchange.status == 206:
            if exchange.span is None or exchange.span[0] != begin:
                raise Fault(f"gave the range {exchange.headers.get('Content-Range')!r} where byte {begin} was asked for")
            first, end, total = exchange.span
            if exchange.length not in (None, end - first) or (total is not None and total < end):
                raise Fault(f"gave {exchange.length} bytes as {exchange.headers.get('Content-Range')!r}")
        elif exchange.status == 200:
            first, total = 0, exchange.length
            if total is None and not exchange.is_chunked:
                # An answer whose header breaks off looks so too: its end would be taken for the file's.
                raise Fault("says nothing of its length")
        else:
            raise SourceError(f"{self._name} answered {exchange.status} to a plain request", wanted="the file")
        self._settle_length(total, exchange.validators)
        if first is not None:
            self._to_skip, self._to_check = begin - first, self._tail
        if not self._tail:
            self.validators = exchange.validators

    def _settle_length(self, total: int | None, validators: Validators) -> None:
        """One length for all answers. One that was said wrongly is corrected if nothing else can have changed."""
        if total is None or total == self.total:
            return
        begun = self._position > self._start
        if self.total is not None and begun and not self.validators.proves(validators):
            raise SourceError(
                f"{self._name} said that it has {self.total} bytes, and now {total}",
                wanted="a file that stays as it is",
                cure="run again: it is read anew",
            )
        if begun and total < self._position:
            raise Fault(f"says that it has {total} bytes, of which {self._position} were read")
        self.total = total

    def _receive(self, size: int) -> bytes:
        """The next new bytes; none where those that came are here already, or a length that nobody said has ended."""
        exchange = self._exchange
        assert exchange is not None
        if self._to_skip or self._to_check:
            size = min(CHUNK, self._to_skip or len(self._to_check))
        before = time.monotonic()
        data = exchange.read(size)
        self._watch_rate(time.monotonic() - before, len(data))
        if not data:
            return self._end_early()
        if self._to_skip:
            self._to_skip -= len(data)
            return b""
        if self._to_check:
            if not self._to_check.startswith(data):
                raise Fault(f"gave other bytes than before when it was asked again, before byte {self._position}")
            self._to_check = self._to_check[len(data) :]
            return b""
        return data

    def _end_early(self) -> bytes:
        if self.total is None and not self._to_skip and not self._to_check:
            self.total = self._position  # nobody said a length (chunks, HTTP/1.0): the end is where it ends
            return b""
        raise Fault(f"broke off after {self._position} of {self.total} bytes")

    def _watch_rate(self, seconds: float, count: int) -> None:
        """Bytes that drip keep a time-out from ever coming; only time spent waiting for them counts."""
        self._slow_s += seconds
        self._slow_bytes += count
        if self._slow_s >= self._access.timeout_s:
            if self._slow_bytes < LEAST_RATE * self._slow_s:
                raise Fault(f"gives only {self._slow_bytes} bytes in {self._slow_s:.0f} s")
            self._slow_s, self._slow_bytes = 0.0, 0
