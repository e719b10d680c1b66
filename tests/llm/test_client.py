"""One send, against a server that does what it should and what it should not."""

from __future__ import annotations

import asyncio
import base64
import datetime
import gc
import http.server
import ipaddress
import json
import socket
import ssl
import threading
import warnings

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from persona_hub.errors import ModelMisconfigured
from persona_hub.llm import client as client_module
from persona_hub.llm.client import (
    ModelClient,
    build_body,
    hide_credentials,
    list_secrets,
    read_endpoint,
    split_credentials,
)
from persona_hub.llm.failures import Cure, Failure
from persona_hub.llm.requests import Request
from persona_hub.settings import LlmSettings

REQUEST = Request(
    "m", [{"role": "user", "content": "Hi"}], {"temperature": 0, "stop": ["."]}, {"type": "object"}, sample=2
)
ALL = ("json_schema", "json_object", "seed", "logprobs")


LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


def send(settings, request=REQUEST, features=ALL, times=1, at_once=1, loop=asyncio.new_event_loop):
    async def run():
        client = ModelClient(settings, features)
        try:
            for _ in range(times):
                results = await asyncio.gather(*(client.send(request) for _ in range(at_once)))
            return results
        finally:
            await client.aclose()

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(run())[0]


@pytest.fixture
def listen():
    """Addresses of servers that answer every call with the same bytes, or with None never."""
    opened = []

    def open_server(reply=None):
        opened.append(server := socket.create_server(("127.0.0.1", 0)))

        def serve():
            while True:
                try:
                    taken, _ = server.accept()
                except OSError:
                    return
                taken.recv(65536)
                taken.sendall(reply)
                taken.close()

        if reply is not None:
            threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}/v1"

    yield open_server
    for server in opened:
        server.close()


def test_reads_text_reason_tokens_and_model(model_server, llm_settings):
    completion = send(llm_settings())
    seen = (completion.text, completion.finish_reason, completion.prompt_tokens, completion.cached_tokens)
    assert seen == ("Hello.", "stop", 11, 3)
    assert (completion.completion_tokens, completion.answered_by, completion.attempts) == (7, "served-model", 1)
    assert (completion.key, completion.error_class) == (REQUEST.key, None)


def test_sends_the_body_and_the_key(model_server, llm_settings):
    send(llm_settings())
    assert model_server.asked == [build_body(REQUEST, ALL)]
    assert model_server.authorizations == ["Bearer sk-secret-1"]


def test_body_asks_what_the_endpoint_can_do():
    bare = {"model": "m", "messages": REQUEST.messages, "temperature": 0, "stop": ["."]}
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}}
    assert build_body(REQUEST, ()) == bare
    assert build_body(REQUEST, ("json_object",)) == bare | {"response_format": {"type": "json_object"}}
    assert build_body(REQUEST, ALL) == bare | {"seed": 2, "response_format": schema}
    assert build_body(REQUEST.ask_anew(), ("seed",)) == bare | {"seed": 1_000_005}
    without = Request("m", REQUEST.messages, {"stop": None, "top_p": 1})
    assert build_body(without, ()) == {"model": "m", "messages": REQUEST.messages, "top_p": 1}
    assert build_body(Request("m", REQUEST.messages), ("json_object",)) == {"model": "m", "messages": REQUEST.messages}


def test_never_sends_the_environments_key(model_server, llm_settings, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    send(llm_settings(api_key=None))
    assert model_server.authorizations == ["Bearer none"]


@pytest.mark.parametrize("status", [400, 401, 408, 409, 429, 500, 503])
def test_sends_once(model_server, llm_settings, answer, status):
    model_server.answer_with(answer('{"error": {"message": "no"}}', status))
    assert send(llm_settings()).message == f"HTTP {status} (no)"
    assert len(model_server.asked) == 1


def test_passes_on_how_long_to_wait(model_server, llm_settings, answer):
    model_server.answer_with(answer("{}", 429, {"Retry-After": "17"}))
    assert send(llm_settings()) == Failure("rate_limited", "HTTP 429", 17.0, congestion=True)


def test_hides_the_key_that_a_server_repeats(model_server, llm_settings, answer):
    for status, body in ((401, {"error": {"message": "wrong: sk-secret-1"}}), (200, {"error": "wrong: sk-secret-1"})):
        model_server.answer_with(answer(json.dumps(body), status))
        failure = send(llm_settings())
        assert "wrong: ***" in failure.message and "sk-secret-1" not in repr(failure)


@LOOPS
def test_nobody_listens(llm_settings, loop):
    with socket.socket() as taken:  # bound, not listening: refuses every connection
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        failure = send(llm_settings(base_url=f"http://user:pass@{address}/v1"), loop=loop)
    assert failure.error_class == "refused_connection"
    assert failure.message.startswith(f"no connection (Cannot connect to host {address} ")


@LOOPS
def test_a_host_without_an_address(llm_settings, loop):
    failure = send(llm_settings(base_url="http://model.invalid/v1"), loop=loop)
    assert failure.error_class == "refused_connection"
    assert failure.message.startswith("no connection (Cannot connect to host model.invalid:80 ")


@LOOPS
def test_a_time_limit_tells_connecting_from_answering(llm_settings, listen, loop):
    """Both listeners take the connection; the handshake of one, the answer of the other never comes."""
    address = listen()
    failure = send(llm_settings(base_url=f"https://{address}", timeout_s=0.4), loop=loop)
    assert failure == Failure(
        "refused_connection",
        f"no connection (Connection timeout to host https://{address}/chat/completions)",
    )
    failure = send(llm_settings(base_url=f"http://{listen()}", timeout_s=0.4), loop=loop)
    assert failure == Failure("timeout", "no answer within 0.4 s")


@LOOPS
@pytest.mark.parametrize(
    ("reply", "seen"),
    [
        (b"", "Server disconnected"),
        (b"sk-secret-1 is no HTTP\r\n\r\n", "ClientResponseError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "ClientPayloadError"),
    ],
)
def test_an_answer_that_is_no_http(llm_settings, listen, reply, seen, loop):
    failure = send(llm_settings(base_url=f"http://{listen(reply)}"), loop=loop)
    assert failure == Failure("disconnected", f"the connection was cut ({seen})")


def test_time_limit_holds_for_the_whole_call(model_server, llm_settings, answer, chat):
    model_server.answer_with(answer(chat(), delay_s=0.5), chat())
    assert send(llm_settings(timeout_s=0.1)) == Failure("timeout", "no answer within 0.1 s")


def test_timeouts_leave_the_connections_usable(model_server, llm_settings, answer, chat):
    model_server.answer_with(*[answer("", delay_s=0.3)] * 8, chat())
    assert send(llm_settings(timeout_s=0.1), at_once=8, times=2).text == "Hello."


@LOOPS
@pytest.mark.parametrize("reset", ["before", "within"])
def test_a_cut_connection(model_server, llm_settings, answer, chat, reset, loop):
    model_server.answer_with(answer(chat(), reset=reset))
    failure = send(llm_settings(), loop=loop)
    assert failure.error_class == "disconnected"
    assert failure.message.startswith("the connection was cut (")


def test_a_connection_cut_after_the_answer_loses_nothing(model_server, llm_settings, answer, chat):
    model_server.answer_with(answer(chat(), reset="after"))

    async def run():
        client = ModelClient(llm_settings(), ALL)
        first = await client.send(REQUEST)
        await asyncio.sleep(0.1)  # the server resets the idle connection
        second = await client.send(REQUEST)
        await client.aclose()
        return first.text, second.text

    assert asyncio.run(run()) == ("Hello.", "Hello.")


@LOOPS
def test_an_answer_of_5_mb_comes_whole(model_server, llm_settings, chat, loop):
    text = "Größe " * 800_000
    model_server.answer_with(chat(text))
    assert send(llm_settings(), loop=loop).text == text


def test_a_lone_surrogate_comes_through(model_server, llm_settings, chat):
    model_server.answer_with(chat("\ud800 broken"))
    assert send(llm_settings()).text == "\ud800 broken"


def test_as_many_calls_at_once_as_are_made(model_server, llm_settings, answer, chat):
    """The transport's own limit would be 100 connections."""
    together = threading.Barrier(120, timeout=20)

    def wait_for_all(_):
        together.wait()
        return answer(chat())

    model_server.decide = wait_for_all
    assert send(llm_settings(timeout_s=30), at_once=120).text == "Hello."
    assert model_server.most_flying == 120


@pytest.mark.parametrize(("idle_s", "connections"), [(30.0, 1), (0.05, 2)])
def test_an_idle_connection_is_kept_for_its_time(model_server, llm_settings, monkeypatch, idle_s, connections):
    monkeypatch.setattr(client_module, "IDLE_S", idle_s)

    async def run():
        client = ModelClient(llm_settings(), ALL)
        await client.send(REQUEST)
        await asyncio.sleep(0.2)
        await client.send(REQUEST)
        await client.aclose()

    asyncio.run(run())
    assert len(set(model_server.callers)) == connections


def test_nothing_is_left_open(model_server, llm_settings, answer, chat, caplog):
    model_server.answer_with(chat(), answer("", delay_s=0.3), answer(chat(), reset="within"), chat())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        send(llm_settings(timeout_s=0.1), times=4)
        gc.collect()
    assert [str(warning.message) for warning in warned] == []
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_proxy_of_the_environment(model_server, llm_settings, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", model_server.url)
    monkeypatch.setenv("HTTPS_PROXY", model_server.url)
    assert send(llm_settings(base_url="http://model.invalid/v1")).text == "Hello."
    assert model_server.headers[0]["host"] == "model.invalid"
    failure = send(llm_settings(base_url="https://model.invalid/v1"))  # this server makes no tunnels
    assert failure.error_class == "refused_connection"
    assert failure.message.startswith("no connection (501, ")
    assert len(model_server.asked) == 1


@LOOPS
def test_trusts_the_certificates_of_the_environment(llm_settings, chat, tmp_path, monkeypatch, loop):
    served, reply = write_certificate(tmp_path), chat().encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served)
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        settings = llm_settings(base_url=f"https://127.0.0.1:{server.server_address[1]}/v1")
        stranger = send(settings, loop=loop)
        client_module._load_trust.cache_clear()
        monkeypatch.setenv("SSL_CERT_FILE", str(served))
        try:
            assert send(settings, loop=loop).text == "Hello."
        finally:
            client_module._load_trust.cache_clear()
            server.shutdown()
    assert stranger.error_class == "refused_connection"
    assert "self-signed certificate" in stranger.message


def write_certificate(folder):
    """A file with a key and its self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    pem = serialization.Encoding.PEM
    bare = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(bare + certificate.public_bytes(pem))
    return file


def test_address_is_needed():
    with pytest.raises(ModelMisconfigured, match="persona_hub_llm"):
        send(LlmSettings())


@pytest.mark.parametrize(
    "address", ["host:8000/v1", "me:word@host/v1", "ftp://me:word@host", "http://", "http://[::1/v1", "http://h:x/v1"]
)
def test_an_address_that_is_none_is_refused_unseen(llm_settings, address):
    with pytest.raises(ModelMisconfigured) as caught:
        send(llm_settings(base_url=address))
    assert str(caught.value) == (
        "The address of the model endpoint is none. Wanted: http:// or https://, a host, and the path of an "
        "OpenAI-compatible API, /v1 included. To do: correct the host of the Airflow connection persona_hub_llm, or "
        "PERSONA_HUB_LLM__BASE_URL."
    )


def test_what_cannot_be_sent_stops(llm_settings):
    failure = send(llm_settings(base_url="http://127.0.0.1:99999/v1"))
    address = "http://127.0.0.1:99999/v1/chat/completions"
    assert failure == Failure("unsendable", f"nothing: no call can be sent ({address})")
    assert failure.cure is Cure.STOP and not failure.sick


def test_credentials_of_the_address_go_in_the_header_alone(model_server, llm_settings):
    address = llm_settings().base_url.replace("//", "//me:w%40rd@")
    send(llm_settings(base_url=address))
    assert model_server.authorizations == [f"Basic {base64.b64encode(b'me:w@rd').decode()}"]
    assert split_credentials("https://host:8/v1?key=1") == ("https://host:8/v1?key=1", None)


def test_hides_credentials():
    assert hide_credentials("https://me:word@host:8/v1?key=1") == "https://host:8/v1"


@pytest.mark.parametrize("credentials", ["token%2F1@", "token%2F1:@"])
def test_a_lone_user_is_a_secret(model_server, llm_settings, credentials):
    basic = base64.b64encode(b"token/1:").decode()
    address = llm_settings().base_url.replace("//", f"//{credentials}")
    send(llm_settings(base_url=address))
    assert model_server.authorizations == [f"Basic {basic}"]
    assert list_secrets(address, "") == [basic, "token%2F1", "token/1"]


def test_secrets_in_all_their_forms():
    basic = base64.b64encode(b"me:it's\n").decode()
    secrets = list_secrets("http://me:it's%0A@host/v1", "sk-back\\slash")
    assert set(secrets) == {"sk-back\\slash", "sk-back\\\\slash", "it's%0A", "it's\n", "it's\\n", basic}
    assert secrets == sorted(secrets, key=len, reverse=True)
    assert list_secrets("http://host/v1", "") == []


def test_an_endpoint_shows_no_secret(llm_settings):
    endpoint = read_endpoint(llm_settings(base_url=" http://me:word@host/v1\n"))
    assert repr(endpoint) == "Endpoint(address='http://host/v1', base_url='http://host/v1')"
