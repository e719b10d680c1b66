"""What a table is: the one description from which all else is derived."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """One column. `pattern` (a regular expression) and `length` (characters) become expectations of the gate."""

    name: str
    type: str
    doc: str
    nullable: bool = False
    pattern: str | None = None
    length: tuple[int, int] | None = None


@dataclass(frozen=True)
class Table:
    """One Delta table.

    Attributes:
        name: layer and name, as in `gold.personas`.
        columns: in the order in which they are stored.
        key: the columns that are unique together.
        cluster: liquid clustering, so that a slice's rows lie together; empty for small tables, which are
            also written without Spark (delta-rs does not write clustered tables).
        checks: CHECK constraints by name: what must never be stored.
        change_feed: whether consumers outside may follow its changes.
        bounds: columns of which Delta keeps least and greatest values per file, to skip files by; its own choice, the
            first 32, if empty.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    cluster: tuple[str, ...] = ()
    checks: dict[str, str] = field(default_factory=dict)
    change_feed: bool = False
    bounds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names) or not {*self.key, *self.cluster} <= set(names):
            raise ValueError(f"table {self.name}: a column is named twice, or a key column is missing")

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def schema(self) -> str:
        """The columns as Spark DDL, for `createDataFrame` and for the table itself."""
        return ", ".join(f"{c.name} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in self.columns)

    @property
    def properties(self) -> dict[str, str]:
        """Delta table properties. CHECK constraints given at creation cost no commit of their own."""
        checks = {f"delta.constraints.{name}": rule for name, rule in self.checks.items()}
        feed = {"delta.enableChangeDataFeed": "true"} if self.change_feed else {}
        bounds = {"delta.dataSkippingStatsColumns": ",".join(self.bounds)} if self.bounds else {}
        return checks | feed | bounds

    def path(self, lake: str) -> str:
        return f"{lake.rstrip('/')}/{self.name.replace('.', '/')}"

    def create_statement(self, lake: str) -> str:
        """CREATE TABLE IF NOT EXISTS for Spark: schema, comments, clustering, constraints, in one commit."""
        columns = ", ".join(
            f"{c.name} {c.type}{'' if c.nullable else ' NOT NULL'} COMMENT {_quote(c.doc)}" for c in self.columns
        )
        cluster = f" CLUSTER BY ({', '.join(self.cluster)})" if self.cluster else ""
        properties = ", ".join(f"{_quote(name)} = {_quote(value)}" for name, value in self.properties.items())
        return (
            f"CREATE TABLE IF NOT EXISTS delta.`{self.path(lake)}` ({columns}) USING delta{cluster} "
            f"COMMENT {_quote(self.doc)}" + (f" TBLPROPERTIES ({properties})" if properties else "")
        )


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
