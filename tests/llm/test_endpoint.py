"""The loopback endpoint itself: that it counts truly, and that the openai package takes it for OpenAI's API."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time

import openai
import pytest

MESSAGES = [{"role": "user", "content": "A page about the tides of the Wadden Sea and its birds"}]


@pytest.fixture
def client(endpoint):
    with openai.OpenAI(base_url=endpoint.url, api_key="none", max_retries=0, timeout=5) as client:
        yield client


def ask(client, **more):
    return client.chat.completions.create(**{"model": "m", "messages": MESSAGES, "seed": 0, **more})


def upload(client, names=("a", "b", "c", "d")):
    lines = [
        {"custom_id": name, "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": "m", "messages": [{"role": "user", "content": f"page {name}"}]}}
        for name in names
    ]  # fmt: skip
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"slice": "1"}
    )


def wait(client, batch):
    seen = [batch.status]
    while not (batch.status in {"completed", "failed", "expired", "cancelled"} or time.sleep(0.01)):
        batch = client.batches.retrieve(batch.id)
        seen += [batch.status] if batch.status != seen[-1] else []
    return batch, seen


def read(client, file_id):
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def test_answers_and_counts_what_was_asked_twice(endpoint, client):
    reply = ask(client)
    assert reply.choices[0].message.content == "A reader of " + MESSAGES[0]["content"][:40]
    assert (reply.model, reply.usage.prompt_tokens, reply.usage.completion_tokens) == ("m", 13, 7)
    ask(client)
    ask(client, seed=1)
    stats = endpoint.stats()
    assert (stats["calls"], stats["answered"], stats["asked_again"], stats["duplicates"]) == (3, 3, 1, 1)
    assert (stats["prompt_tokens"], stats["completion_tokens"]) == (39, 21)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("500", openai.InternalServerError), ("401", openai.AuthenticationError), ("429", openai.RateLimitError),
        ("context_length", openai.BadRequestError), ("insufficient_quota", openai.RateLimitError),
        ("hang", openai.APITimeoutError), ("reset_before", openai.APIConnectionError),
        ("reset_after_headers", openai.APIConnectionError), ("half_json", json.JSONDecodeError),
    ],
)  # fmt: skip
def test_plays_the_script_and_then_answers(endpoint, client, step, error):
    endpoint.control(status_script=[step])
    with pytest.raises(error):
        ask(client, timeout=0.3)
    ask(client)
    stats = endpoint.stats()
    assert (stats["calls"], stats["answered"], stats["duplicates"], stats["in_flight"]) == (2, 1, 0, 0)
    assert stats["refused"] + stats["failed"] + stats["abandoned"] == 1


def test_odd_answers_are_answers(endpoint, client):
    endpoint.control(status_script=["tool_call", "length", "other_model", "no_usage", "empty_choices", "big"])
    replies = [ask(client) for _ in range(6)]
    assert [reply.choices[0].finish_reason for reply in replies[:2]] == ["tool_calls", "length"]
    assert (replies[2].model, replies[3].usage, replies[4].choices) == ("another-model", None, [])
    assert len(replies[5].choices[0].message.content) == 5_000_000
    assert endpoint.stats()["answered"] == 6


def test_refuses_above_its_limits(endpoint):
    endpoint.control(latency_s=0.2, max_in_flight=3, retry_after="1")

    async def ask_all():
        async with openai.AsyncOpenAI(base_url=endpoint.url, api_key="none", max_retries=0) as client:
            calls = (client.chat.completions.create(model="m", messages=MESSAGES, seed=i) for i in range(8))
            return await asyncio.gather(*calls, return_exceptions=True)

    refusals = [got for got in asyncio.run(ask_all()) if isinstance(got, openai.RateLimitError)]
    assert [refusal.response.headers["retry-after"] for refusal in refusals] == ["1"] * 5
    stats = endpoint.stats()
    assert (stats["most_in_flight"], stats["answered"], stats["refused"], stats["in_flight"]) == (3, 3, 5, 0)
    endpoint.reset()
    endpoint.control(requests_per_s=20)
    asyncio.run(ask_all())
    stats = endpoint.stats()
    assert 2 <= stats["answered"] <= 5
    assert stats["answered"] + stats["refused"] == 8


def test_names_the_feature_that_it_lacks(endpoint, client):
    endpoint.control(features=["seed"])
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, response_format={"type": "json_object"})
    assert (caught.value.param, caught.value.code) == ("response_format", "unsupported_parameter")
    with pytest.raises(openai.BadRequestError, match="logprobs"):
        ask(client, logprobs=True)
    with pytest.raises(ValueError, match="latency"):
        endpoint.control(latency=1)


def test_outlives_a_killed_client_and_counts_no_answer_to_it(endpoint, client):
    endpoint.control(latency_s=0.3)
    body = json.dumps({"model": "m", "messages": MESSAGES}).encode()
    asker = (
        f"import os, socket\ns = socket.create_connection(('127.0.0.1', {endpoint.port}))\n"
        f"s.sendall(b'POST /v1/chat/completions HTTP/1.1\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n' + {body!r})\n"
        "os.kill(os.getpid(), 9)"
    )
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", asker) == -9
    ask(client)
    stats = endpoint.stats()
    assert (stats["calls"], stats["answered"], stats["abandoned"], stats["in_flight"]) == (2, 1, 1, 0)


def test_takes_a_request_in_pieces(endpoint):
    body = json.dumps({"model": "m", "messages": MESSAGES}).encode()
    whole = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", endpoint.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(whole), 17):
            connection.sendall(whole[at : at + 17])
            time.sleep(0.001)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_a_batch_completes(endpoint, client):
    endpoint.control(batch_line_errors=[1, [2, 500]])
    batch, seen = wait(client, upload(client))
    assert seen == ["validating", "in_progress", "finalizing", "completed"]
    assert (batch.request_counts.total, batch.request_counts.completed, batch.metadata) == (4, 2, {"slice": "1"})
    output, errors = read(client, batch.output_file_id), read(client, batch.error_file_id)
    assert [line["custom_id"] for line in output] == ["a", "d"]
    assert output[0]["response"]["body"]["choices"][0]["message"]["content"] == "A reader of page a"
    assert [line["response"]["status_code"] for line in errors] == [400, 500]
    assert errors[0]["response"]["body"]["error"]["code"] == "context_length_exceeded"
    stats = endpoint.stats()
    assert (stats["batches"], stats["batch_lines_answered"], stats["duplicates"], stats["calls"]) == (1, 2, 0, 0)


def test_a_batch_expires_and_another_is_cancelled(endpoint, client):
    endpoint.control(batch_outcome="expired")
    batch, _ = wait(client, upload(client))
    assert batch.status == "expired"
    assert len(read(client, batch.output_file_id)) == 2
    assert [line["error"]["code"] for line in read(client, batch.error_file_id)] == ["batch_expired"] * 2
    endpoint.control(batch_s=60, batch_done_share=0)
    slow = upload(client)
    endpoint.control(batch_s=0.2)
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)
    assert client.batches.cancel(slow.id).status == "cancelling"


def test_a_batch_fails_its_validation(endpoint, client):
    batch, seen = wait(client, upload(client, ["a", "b", "a"]))
    assert seen == ["validating", "failed"]
    assert [(error.code, error.line) for error in batch.errors.data] == [("duplicate_custom_id", 3)]
    assert (batch.output_file_id, batch.error_file_id) == (None, None)


def test_a_batch_whose_reply_was_lost_is_there(endpoint, client):
    endpoint.control(drop_batch_reply=True)
    with pytest.raises(openai.APIConnectionError):
        upload(client)
    endpoint.control(drop_batch_reply=False)
    upload(client)
    upload(client)
    listed = list(client.batches.list(limit=2))
    assert [batch.id for batch in listed] == sorted((batch.id for batch in listed), reverse=True)
    assert len(listed) == 3
    for batch in listed:
        wait(client, batch)
    assert endpoint.stats()["duplicates"] == 8
