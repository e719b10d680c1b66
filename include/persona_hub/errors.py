"""Every error that Persona Hub raises on purpose.

    HubError
    ├── SettingsError          a setting is unknown, missing or out of range
    ├── CrawlError             the crawl's side
    │   ├── SourceError        a list or file of the source cannot be had, or is not what it should be
    │   │   └── NotThere       the source answers that it has no such file
    │   ├── UnreadableFile     a crawl file is neither WARC nor ARC, or breaks before its first record
    │   └── UnknownSlice       a partition key that the calendar does not hold
    ├── RegistryError          a name registered twice, or asked for and not there
    ├── PromptError            a template that cannot be rendered: bad field, bad file
    ├── ModelError             the model endpoint's side
    │   ├── ModelUnavailable   down, refusing, timing out: worth another try later
    │   └── ModelMisconfigured wrong key, unknown model, no OpenAI-compatible API there: a person must act
    ├── BudgetReached          one more call might pass a line of the budget
    ├── LakeError              the tables' side
    │   ├── TableMismatch      a stored table differs from its description
    │   ├── LeaseHeld          somebody else holds what we need
    │   ├── LeaseLost          we held it too long without renewing
    │   └── SurvivorsOutdated  what a row was removed for has gone since: deduplicate once more
    └── GateFailed             a critical expectation failed: nothing was published

A message says what was found, what was wanted and what to do, in that order.
"""

from __future__ import annotations

HOPELESS = 78
"""Exit code of a driver whose error no retry cures (EX_CONFIG of sysexits.h); the Airflow side reads it."""


class HubError(Exception):
    """Base of all; `found`, `wanted` and `cure` are kept for those who render it elsewhere.

    `retry_helps` is false where only a person's act cures it: Airflow then does not try again.
    """

    retry_helps = True

    def __init__(self, found: str, *, wanted: str = "", cure: str = "") -> None:
        self.found, self.wanted, self.cure = found, wanted, cure
        parts = [found.rstrip(".")]
        if wanted:
            parts.append(f"Wanted: {wanted.rstrip('.')}")
        if cure:
            parts.append(f"To do: {cure.rstrip('.')}")
        super().__init__(". ".join(parts) + ".")

    def __reduce__(self) -> tuple[object, ...]:
        # Spark pickles what a worker raises; the keyword-only arguments would be lost without this.
        return _rebuild, (type(self), self.found, self.wanted, self.cure)


def _rebuild(kind: type[HubError], found: str, wanted: str, cure: str) -> HubError:
    return kind(found, wanted=wanted, cure=cure)


class SettingsError(HubError):
    """A setting is unknown, missing or out of range."""

    retry_helps = False


class CrawlError(HubError):
    """The crawl's side."""


class SourceError(CrawlError):
    """A list or file of the source cannot be had, or is not what it should be."""


class NotThere(SourceError):
    """The source answers that it has no such file."""


class UnreadableFile(CrawlError):
    """A crawl file is neither WARC nor ARC, or breaks before its first record."""

    retry_helps = False


class UnknownSlice(CrawlError):
    """A partition key that the calendar does not hold."""

    retry_helps = False


class RegistryError(HubError):
    """A name registered twice, or asked for and not there."""

    retry_helps = False


class PromptError(HubError):
    """A template that cannot be rendered."""

    retry_helps = False


class ModelError(HubError):
    """The model endpoint's side."""


class ModelUnavailable(ModelError):
    """Down, refusing or timing out: worth another try later."""


class ModelMisconfigured(ModelError):
    """Wrong key, unknown model, no OpenAI-compatible API there: a person must act."""

    retry_helps = False


class BudgetReached(HubError):
    """One more call might pass a line of the budget: what was bought is kept, the next run goes on from there."""

    retry_helps = False


class LakeError(HubError):
    """The tables' side."""


class TableMismatch(LakeError):
    """A stored table differs from its description."""

    retry_helps = False


class LeaseHeld(LakeError):
    """Somebody else holds what we need."""


class LeaseLost(LakeError):
    """We held a lease too long without renewing it."""


class SurvivorsOutdated(LakeError):
    """What a row was removed for has itself gone since: the slice must be deduplicated once more."""


class GateFailed(HubError):
    """A critical expectation failed: nothing was published."""

    retry_helps = False
