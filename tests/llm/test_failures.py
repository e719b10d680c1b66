from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from persona_hub.llm.failures import ACTS, CURES, Cure, Failure, build_error, judge_response, read_retry_after


def fail(status, message="", **error):
    return judge_response(status, {}, json.dumps({"error": {"message": message, **error}}))


@pytest.mark.parametrize(
    ("status", "error_class", "cure", "congestion"),
    [
        (400, "bad_request", Cure.KEEP, False),
        (401, "unauthorized", Cure.STOP, False),
        (402, "quota_exhausted", Cure.STOP, False),
        (403, "forbidden", Cure.STOP, False),
        (404, "unknown_model", Cure.STOP, False),
        (405, "not_an_api", Cure.STOP, False),
        (408, "overloaded", Cure.RETRY, False),
        (409, "overloaded", Cure.RETRY, False),
        (413, "too_large", Cure.KEEP, False),
        (418, "not_an_api", Cure.STOP, False),
        (422, "unprocessable", Cure.KEEP, False),
        (425, "overloaded", Cure.RETRY, False),
        (429, "rate_limited", Cure.RETRY, True),
        (500, "overloaded", Cure.RETRY, False),
        (502, "overloaded", Cure.RETRY, False),
        (503, "overloaded", Cure.RETRY, True),
        (529, "overloaded", Cure.RETRY, True),
    ],
)
def test_a_status_has_a_class_and_a_cure(status, error_class, cure, congestion):
    failure = fail(status, "so it is")
    assert failure == Failure(error_class, f"HTTP {status} (so it is)", 0.0, congestion)
    assert failure.cure is cure
    assert judge_response(status, {}, "<html>") == Failure(error_class, f"HTTP {status}", 0.0, congestion)


@pytest.mark.parametrize(
    ("status", "error", "error_class"),
    [
        (400, {"code": "context_length_exceeded"}, "context_length"),
        (400, {"message": "This model's maximum context length is 8192 tokens."}, "context_length"),
        (400, {"type": "exceed_context_size_error", "code": 400}, "context_length"),
        (400, {"message": "the request exceeds the available context size"}, "context_length"),
        (400, {"code": "content_filter"}, "content_filter"),
        (400, {"message": "triggering Azure's content management policy"}, "content_filter"),
        (400, {"code": "model_not_found"}, "unknown_model"),
        (429, {"code": "insufficient_quota"}, "quota_exhausted"),
        (429, {"type": "insufficient_quota", "code": None}, "quota_exhausted"),
        (429, {"message": "Rate limit of tokens per minute", "code": "rate_limit_exceeded"}, "rate_limited"),
        (500, {"code": "insufficient_quota"}, "overloaded"),
    ],
)
def test_the_servers_words_say_more_than_the_status(status, error, error_class):
    assert fail(status, **{"message": "", **error}).error_class == error_class


def test_a_quoted_page_stops_nothing():
    said = "cannot read: 'insufficient_quota, model_not_found, said the page'"
    assert fail(422, said).error_class == "unprocessable"
    assert fail(400, said, code=["model_not_found"]).error_class == "bad_request"


@pytest.mark.parametrize(
    ("body", "error_class", "seen"),
    [
        ("", "half_answer", "an empty body"),
        (" \n", "half_answer", "an empty body"),
        ('{"id": "x", "choices": [{"mess', "half_answer", "half a JSON (30 characters)"),
        ("[" * 100_000, "half_answer", "half a JSON (100000 characters)"),
        ('{"choices": []}', "no_choice", "no choice in the answer"),
        ('{"error": {"code": 502}}', "upstream_error", "an error in place of an answer ({'code': 502})"),
        ('{"choices": [], "error": "no room"}', "upstream_error", "an error in place of an answer (no room)"),
        ("<!doctype html><p>Log in</p>", "not_an_api", "HTML"),
        ("[1, 2]", "not_an_api", "a JSON list"),
        ('"yes"', "not_an_api", "a JSON text"),
        ('{"status": "fine"}', "not_an_api", "a JSON object with the keys ['status']"),
        ('{"choices": [3]}', "not_an_api", "a JSON object with the keys ['choices']"),
        ('{"choices": [{"message": {"content": [1]}}]}', "not_an_api", "a message whose content is a list"),
        ('{"choices": [{"message": {"tool_calls": [{}]}}]}', "tool_call", "a call of a tool instead of a text"),
    ],
)
def test_a_body_without_an_answer(body, error_class, seen):
    failure = judge_response(200, {}, body)
    assert (failure.error_class, failure.message) == (error_class, seen)


def test_a_call_of_a_tool_keeps_what_was_billed(chat):
    failure = judge_response(200, {}, chat(None, "tool_calls", tool_calls=[{"id": "1"}]))
    assert (failure.error_class, failure.cure) == ("tool_call", Cure.KEEP)
    assert failure.reply == {
        "prompt_tokens": 11, "cached_tokens": 3, "completion_tokens": 7, "reasoning_tokens": None,
        "answered_by": "served-model", "finish_reason": "tool_calls",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("message", "text", "reason"),
    [
        ({"text": "Half a", "finish_reason": "length"}, "Half a", "length"),
        ({"text": ""}, "", "stop"),
        ({"text": None}, "", "stop"),
        ({"text": None, "finish_reason": "content_filter"}, "", "content_filter"),
        ({"text": None, "refusal": "I will not."}, "I will not.", "refusal"),
        ({"text": "Both.", "tool_calls": [{"id": "1"}]}, "Both.", "stop"),
    ],
)
def test_odd_answers_are_answers(chat, message, text, reason):
    reply = judge_response(200, {}, chat(**message))
    assert (reply["text"], reply["finish_reason"]) == (text, reason)


def test_thoughts_are_counted():
    usage = {"prompt_tokens": 5, "completion_tokens": 90, "completion_tokens_details": {"reasoning_tokens": 80}}
    reply = judge_response(200, {}, json.dumps({"choices": [{"message": {"content": "x"}}], "usage": usage}))
    assert (reply["completion_tokens"], reply["reasoning_tokens"]) == (90, 80)


@pytest.mark.parametrize("usage", [None, [], {"prompt_tokens": -1, "completion_tokens": "7"}, {"prompt_tokens": True}])
def test_bad_usage_is_unknown_not_zero(usage):
    reply = judge_response(200, {}, json.dumps({"choices": [{"message": {"content": "x"}}], "usage": usage}))
    assert (reply["prompt_tokens"], reply["completion_tokens"], reply["cached_tokens"]) == (None, None, None)


@pytest.mark.parametrize(("count", "read"), [(2**53, 2**53), (2**53 + 1, None), (10**40, None)])
def test_a_count_beyond_reason_is_unknown(count, read):
    body = {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": count, "completion_tokens": 7}}
    reply = judge_response(200, {}, json.dumps(body))
    assert (reply["prompt_tokens"], reply["completion_tokens"]) == (read, 7)


def test_secrets_are_hidden_before_words_are_cut():
    words = "x" * 295 + "sk-secret-1"
    for status, body in ((500, {"error": {"message": words}}), (200, {"error": words})):
        failure = judge_response(status, {}, json.dumps(body), ["sk-secret-1"])
        assert "sk-" not in failure.message and "xxx" in failure.message


@pytest.mark.parametrize(
    ("value", "seconds"), [("2.5", 2.5), ("0", 0), ("-3", 0), ("", 0), ("soon", 0), ("nan", 0), ("inf", float("inf"))]
)
def test_retry_after_in_seconds(value, seconds):
    assert read_retry_after({"retry-after": value}) == seconds


def test_retry_after_as_a_date():
    then = datetime.now(UTC) + timedelta(seconds=60)
    assert 58 <= read_retry_after({"retry-after": format_datetime(then, usegmt=True)}) <= 60
    assert read_retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert read_retry_after({}) == 0


@pytest.mark.parametrize(
    "date",
    ["Fri, 31 Dec 99999999999999999999 23:59:59 GMT", "Wed, 21 Oct 2115 07:28:00 +99999999999999", "Wed, 99 Oct 2115"],
)
def test_retry_after_no_calendar_holds_says_nothing(date):
    assert read_retry_after({"retry-after": date}) == 0


def test_every_stop_says_what_to_do():
    stops = {error_class for error_class, cure in CURES.items() if cure is Cure.STOP}
    assert stops == set(ACTS)
    error = build_error(fail(401, "wrong key"), "http://host/v1")
    assert str(error) == (
        "The model endpoint http://host/v1 answers HTTP 401 (wrong key). Wanted: a chat completion. "
        "To do: correct the key in the connection persona_hub_llm."
    )
