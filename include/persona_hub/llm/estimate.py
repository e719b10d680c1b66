"""What a stage will ask and what that will cost, from a look at its questions and the ledger's history of the like.

Each figure comes with an interval that is meant to hold the truth in four of five cases. A product's relative errors
are added as squares, as of independent quantities; a sum's bounds are added as they are, which is the careful side.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev, stdev

from persona_hub.core.text import weigh_chars
from persona_hub.llm.pricing import Price
from persona_hub.llm.requests import Request

Z = 1.2816  # an 80 % interval of a normal distribution
# Without history: weighed characters a token of European prose, and where they end for other scripts and tokenizers.
CHARS_PER_TOKEN = (2.2, 3.6, 5.0)
FRAME_CHARS = 16  # of each message: its role and the marks around it
UNKNOWN_MAX_TOKENS = 4_096
BETWEEN_SLICES = 0.1  # relative; measured instead where the history has slices enough
ENOUGH_SLICES = 3
BETWEEN_PROMPTS = 0.5


@dataclass(frozen=True)
class Interval:
    """A figure, and the bounds between which it lies in four of five cases."""

    low: float
    likely: float
    high: float

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def __mul__(self, other: Interval) -> Interval:
        if not self.likely or not other.likely:
            return Interval(self.low * other.low, self.likely * other.likely, self.high * other.high)
        below = math.hypot(1 - self.low / self.likely, 1 - other.low / other.likely)
        above = math.hypot(self.high / self.likely - 1, other.high / other.likely - 1)
        likely = self.likely * other.likely
        return Interval(max(0.0, likely * (1 - below)), likely, likely * (1 + above))

    def scale(self, factor: float) -> Interval:
        return Interval(self.low * factor, self.likely * factor, self.high * factor)

    def cap(self, most: float) -> Interval:
        return Interval(min(self.low, most), min(self.likely, most), min(self.high, most))


@dataclass(frozen=True)
class Moments:
    """Of some values: how many, their mean, their standard deviation."""

    count: int
    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Moments:
        seen = list(values)
        return cls(len(seen), fmean(seen), pstdev(seen)) if seen else cls(0, 0.0, 0.0)

    def foresee_mean(self, calls: float, between: float) -> Interval:
        """The mean over `calls` more values, when groups of them differ by `between` (relative) besides."""
        spread = self.deviation**2 * (1 / max(self.count, 1) + 1 / max(calls, 1)) + (self.mean * between) ** 2
        margin = Z * math.sqrt(spread)
        return Interval(max(0.0, self.mean - margin), self.mean, self.mean + margin)


@dataclass(frozen=True)
class Look:
    """A look at a stage's questions.

    Attributes:
        rows: that the stage asks about.
        looked_at: how many of them were looked at, chosen by hash.
        pending: questions among these without an answer.
        chars: weighed characters of a pending request.
        max_tokens: limit of an answer's tokens that the requests carry; None where they carry none.
    """

    rows: int
    looked_at: int
    pending: int
    chars: Moments
    max_tokens: int | None


@dataclass(frozen=True)
class History:
    """What the ledger knows of earlier answers of the same stage, data type and model.

    Attributes:
        same_prompt: whether they were asked with today's prompt.
        completion_tokens: of an answer.
        between: `measure_between` of the slices' mean answers.
        tokens_per_char: prompt tokens a weighed character, of questions that could be put together again.
        cached_share: of prompt tokens that came from the endpoint's cache.
        answers, maybe_paid: rows of the ledger, and sends without an answer that may have been billed.
        questions, asked_anew: questions looked at again, and how many further askings they took.
    """

    same_prompt: bool = False
    completion_tokens: Moments = Moments(0, 0.0, 0.0)
    between: float | None = None
    tokens_per_char: Moments = Moments(0, 0.0, 0.0)
    cached_share: float = 0.0
    answers: int = 0
    maybe_paid: int = 0
    questions: int = 0
    asked_anew: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a stage will ask. `money` is null where the model has no price.

    Attributes:
        calls: that will be billed: pending questions, those asked anew, and sends paid without an answer.
        basis: what it rests on, in sentences.
    """

    pending: Interval
    calls: Interval
    prompt_tokens: Interval
    completion_tokens: Interval
    money: Interval | None
    basis: tuple[str, ...]


def measure_between(means: Sequence[float]) -> float | None:
    """How far off the mean of one more group may be, relative to that of the groups known; None for too few of them.

    Their deviation, larger for what a few groups leave unknown of mean and deviation (Student's t, its first term).
    """
    if len(means) < ENOUGH_SLICES or not fmean(means):
        return None
    unknown = math.sqrt(1 + 1 / len(means)) * (1 + (Z**2 + 1) / (4 * (len(means) - 1)))
    return unknown * stdev(means) / fmean(means)


def weigh_request(request: Request) -> int:
    """Characters that become prompt tokens, weighed as `weigh_chars` does: messages, their frames, and the schema."""
    schema = len(json.dumps(request.schema)) if request.schema else 0
    return schema + sum(weigh_chars(message["content"]) + FRAME_CHARS for message in request.messages)


def find_max_tokens(request: Request) -> int | None:
    """The request's own limit of an answer's tokens, under either of its names."""
    limits = [request.parameters.get(name) for name in ("max_completion_tokens", "max_tokens")]
    return next((limit for limit in limits if isinstance(limit, int)), None)


def estimate_calls(look: Look, history: History, max_asks: int, price: Price | None, batch: bool = False) -> Estimate:
    """What answering everything that is pending will take.

    Args:
        look: at the stage's questions.
        history: of the like; `History()` where there is none.
        max_asks: times that one question may be asked.
        price: of the model; None where it is not known.
        batch: whether the calls get the batch discount.
    """
    rest = _guess_share(look.pending, look.looked_at).scale(look.rows - look.looked_at)
    pending = rest + Interval(look.pending, look.pending, look.pending)
    anew = _guess_share(history.asked_anew, history.questions * (max_asks - 1)).scale(max_asks - 1)
    lost = _guess_share(history.maybe_paid, history.answers) if history.answers else Interval(0, 0, 0)
    calls = pending * (Interval(1, 1, 1) + anew + lost)
    prompt_tokens = calls * _foresee_prompt(look, history, calls.likely)
    completion_tokens = calls * _foresee_completion(look, history, calls.likely)
    money = None
    if price is not None:
        discount = 1 - price.batch_discount if batch else 1.0
        money = _price_tokens(prompt_tokens, completion_tokens, history.cached_share, price).scale(discount)
    return Estimate(pending, calls, prompt_tokens, completion_tokens, money, _tell_basis(look, history, price))


def _guess_share(hits: int, seen: int) -> Interval:
    """A share of which `hits` of `seen` are known: Wilson's score interval; anything where nothing was seen."""
    if seen <= 0:
        return Interval(0.0, 0.5, 1.0)
    share, z2 = hits / seen, Z**2 / seen
    centre = (share + z2 / 2) / (1 + z2)
    margin = Z * math.sqrt(share * (1 - share) / seen + z2 / (4 * seen)) / (1 + z2)
    return Interval(max(0.0, centre - margin), share, min(1.0, centre + margin))


def _foresee_prompt(look: Look, history: History, calls: float) -> Interval:
    """Prompt tokens of a call."""
    chars = look.chars.foresee_mean(look.pending, 0.0) if look.looked_at < look.rows else _exact(look.chars.mean)
    if not history.tokens_per_char.count:
        low, likely, high = CHARS_PER_TOKEN
        return chars * Interval(1 / high, 1 / likely, 1 / low)
    return chars * history.tokens_per_char.foresee_mean(calls, _between(history))


def _foresee_completion(look: Look, history: History, calls: float) -> Interval:
    """Completion tokens of a call."""
    most = look.max_tokens or UNKNOWN_MAX_TOKENS
    if not history.completion_tokens.count:
        return Interval(most / 10, most / 2, most)
    between = _between(history) if history.same_prompt else BETWEEN_PROMPTS
    return history.completion_tokens.foresee_mean(calls, between).cap(most)


def _between(history: History) -> float:
    return BETWEEN_SLICES if history.between is None else history.between


def _price_tokens(prompt: Interval, completion: Interval, cached_share: float, price: Price) -> Interval:
    """The high bound trusts in no cache."""
    from_cache = cached_share if price.cached is not None else 0.0
    mixed = price.input * (1 - from_cache) + (price.cached or 0.0) * from_cache
    paid = Interval(prompt.low * mixed, prompt.likely * mixed, prompt.high * price.input)
    return (paid + completion.scale(price.output)).scale(1e-6)


def _exact(value: float) -> Interval:
    return Interval(value, value, value)


def _tell_basis(look: Look, history: History, price: Price | None) -> tuple[str, ...]:
    told = []
    if look.looked_at < look.rows:
        told.append(f"{look.looked_at} of {look.rows} rows were looked at, chosen by hash.")
    if calibrated := history.tokens_per_char.count:
        each = 1 / history.tokens_per_char.mean
        told.append(f"Prompt tokens: {each:.2f} weighed characters each, as in {calibrated} calls.")
    else:
        each = CHARS_PER_TOKEN[1]
        told.append(f"Prompt tokens: no such call in the ledger yet; {each} weighed characters each assumed.")
    known, whose = history.completion_tokens, "this prompt" if history.same_prompt else "another prompt"
    if known.count:
        told.append(f"Completion tokens: {known.mean:.0f} ± {known.deviation:.0f} in {known.count} answers to {whose}.")
    else:
        unlimited = f"{UNKNOWN_MAX_TOKENS}, for want of max_tokens"
        most = f"max_tokens of {look.max_tokens}" if look.max_tokens else unlimited
        told.append(f"Completion tokens: no such answer in the ledger yet; half of {most} assumed.")
    if price is None:
        told.append("Money: the model has no price.")
    elif history.cached_share:
        told.append(f"{history.cached_share:.0%} of the prompt tokens came from the endpoint's cache.")
    return tuple(told)
