"""The partition mapper of DAGs that follow another one under the same slice key."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.exceptions import InvalidPartitionKeyError
from airflow.partition_mappers.identity import IdentityMapper

from persona_hub.crawl.calendar import load_calendar
from persona_hub.errors import CrawlError


class SliceMapper(IdentityMapper):
    """The same key downstream, for keys that are slices; Airflow's own identity lets any key through."""

    def __init__(self, calendar_folder: str) -> None:
        super().__init__()
        self.calendar_folder = calendar_folder

    def to_downstream(self, key: str) -> str:
        self.to_partition_date(key)
        return key

    def to_partition_date(self, downstream_key: str) -> datetime:
        return decode_slice_date(self.calendar_folder, downstream_key)

    def serialize(self) -> dict[str, Any]:
        return {"calendar_folder": self.calendar_folder}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> SliceMapper:
        return cls(data["calendar_folder"])


def decode_slice_date(calendar_folder: str, key: str) -> datetime:
    """A slice's partition date.

    Raises:
        InvalidPartitionKeyError: no such slice; with the calendar's own words, which REST and the UI show.
    """
    try:
        return load_calendar(calendar_folder).partition_date(key)
    except CrawlError as error:
        raise InvalidPartitionKeyError(str(error)) from error
