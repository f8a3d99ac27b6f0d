"""Requests under faults: what is sent again, how often, what is raised, and that no key is ever shown."""

import asyncio
import copy
import logging
import pickle
import time
import traceback
from collections import Counter
from typing import Any

import pytest

from agentrl.engine.client import Client, ContextFull, Json, open_client, read_json
from agentrl.engine.endpoint import Endpoint, Secret, read_place
from agentrl.engine.fake_server import FakeServer, Fault
from agentrl.errors import ConfigError, EngineError
from agentrl.message import Action, answer
from tests.remote.serving import KEY, hurried

ASKED: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "Hello."}]}
FAULTS = {
    "HTTP 500": Fault(kind="status", status=500),
    "HTTP 429": Fault(kind="status", status=429, headers={"Retry-After": "0.01"}),
    "HTTP 503": Fault(kind="status", status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "ClientOSError": Fault(kind="reset"),
    "ClientPayloadError": Fault(kind="cut"),
    "Unreadable": Fault(kind="malformed"),
    "BrokenAnswer": Fault(kind="garbled"),
}


def hello(body: dict[str, Any]) -> Action:
    return answer("Good day.")


async def ask(client: Client) -> str:
    def text(found: Json) -> str:
        said: str = found["choices"][0]["message"]["content"]
        return said

    return await client.post("/chat/completions", ASKED, read_json, text)


def asked(server: FakeServer, **settings: Any) -> tuple[str | Exception, Client]:
    """Send one request; gives the answer or what was raised."""

    async def main() -> tuple[str | Exception, Client]:
        async with server.serve(), open_client(hurried(server, **settings)) as client:
            try:
                return await ask(client), client
            except (EngineError, ConfigError, ContextFull) as error:
                return error, client

    return asyncio.run(main())


@pytest.mark.parametrize("label", FAULTS)
def test_a_passing_fault_is_asked_again_and_counted(label: str) -> None:
    server = FakeServer(hello, faults=[FAULTS[label], FAULTS[label]])
    found, client = asked(server)
    assert found == "Good day."
    assert client.facts == {"requests": 1, "retries": {label: 2}}
    assert len(server.requests) == 3 and len(server.injected) == 2


@pytest.mark.parametrize("label", FAULTS)
def test_a_lasting_fault_ends_after_the_attempts_and_is_named(label: str) -> None:
    server = FakeServer(hello, faults=[FAULTS[label]] * 9)
    error, client = asked(server, attempts=3)
    assert isinstance(error, EngineError) and error.kind == "engine"
    assert "no answer in 3 attempts" in str(error) and server.url in str(error)
    assert len(server.requests) == 3 and client.retries == Counter({label: 2})
    cause = type(error.__cause__).__name__
    assert cause == ("HttpStatus" if label.startswith("HTTP") else label)


def test_silence_ends_at_the_time_out() -> None:
    server = FakeServer(hello, faults=[Fault(kind="silent")] * 2)
    began = time.monotonic()
    error, client = asked(server, attempts=2, timeout_seconds=0.15)
    assert isinstance(error, EngineError) and isinstance(error.__cause__, TimeoutError)
    assert 0.3 <= time.monotonic() - began < 3
    assert client.retries == Counter({type(error.__cause__).__name__: 1})
    assert server.left == 2 and server.open == 0


def test_a_slow_answer_within_the_time_out_is_waited_for() -> None:
    found, client = asked(FakeServer(hello, faults=[Fault(kind="slow", seconds=0.2)]))
    assert found == "Good day." and not client.retries


def test_retry_after_is_kept_up_to_the_longest_wait() -> None:
    def seconds(asked_for: str) -> float:
        fault = Fault(kind="status", status=429, headers={"Retry-After": asked_for})
        began = time.monotonic()
        found, _ = asked(FakeServer(hello, faults=[fault]), max_wait_seconds=0.5)
        assert found == "Good day."
        return time.monotonic() - began

    assert 0.3 <= seconds("0.3") and 0.5 <= seconds("3600") < 5


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, ConfigError, "OPENAI_API_KEY is not set"),
        (404, ConfigError, "does the URL end in /v1"),
        (400, EngineError, "refused the request: HTTP 400"),
    ],
)
def test_what_no_retry_can_mend_is_raised_at_once(
    status: int, kind: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = FakeServer(hello, faults=[Fault(kind="status", status=status)] * 3)
    error, _ = asked(server)
    assert isinstance(error, kind) and said in str(error) and "out of order" in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        "the request exceeds the available context size (8192 tokens)",
    ],
)
def test_a_full_context_is_no_failure(said: str) -> None:
    error, _ = asked(FakeServer(hello, faults=[Fault(kind="status", status=400, said=said)]))
    assert isinstance(error, ContextFull)


def test_cancelling_closes_the_connection() -> None:
    async def main() -> tuple[int, int]:
        server = FakeServer(hello, faults=[Fault(kind="silent")])
        async with server.serve(), open_client(hurried(server)) as client:
            task = asyncio.create_task(ask(client))
            while not server.open:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(5):
                while server.open:
                    await asyncio.sleep(0.005)
            return server.left, len(server.requests)

    assert asyncio.run(main()) == (1, 1)


def test_greeting_names_a_wrong_model_key_or_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def greet(endpoint: Endpoint) -> None:
        async with open_client(endpoint) as client:
            await client.greet()

    async def main() -> list[str]:
        said = []
        server = FakeServer(hello)
        async with server.serve():
            wrong = Endpoint(model="scriptd", url=server.url)
            for endpoint in (wrong, hurried(server)):
                try:
                    await greet(endpoint)
                except ConfigError as error:
                    said.append(str(error))
            gone = hurried(server)
        with pytest.raises(ConfigError) as caught:
            await greet(gone)
        return [*said, str(caught.value)]

    wrong, gone = asyncio.run(main())
    assert "no model 'scriptd'; did you mean 'scripted'?" in wrong
    assert "nobody answers at http://127.0.0.1" in gone and "start the server" in gone


def test_the_key_is_sent_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server repeats it in errors and in answers, in the middle and at the place where words are cut."""
    monkeypatch.setenv("HOUSE_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    echo = Fault(kind="status", status=500, said="you sent {authorization} " * 20)
    refused = Fault(kind="status", status=401, said="x" * 290 + " {authorization}")
    server = FakeServer(lambda body: answer(f"your key is {KEY}"), faults=[echo, None, echo, echo, refused])
    shown: list[object] = []
    for _ in range(3):
        found, client = asked(server, attempts=2, api_key_env="HOUSE_KEY")
        shown.append(found)
        if isinstance(found, Exception):
            shown += ["".join(traceback.format_exception(found)), repr(found.__cause__), vars(found)]
        shown += [client.endpoint, vars(client), client.facts]
    assert isinstance(shown[0], str) and shown[0] == "your key is [key]"
    text = "\n".join(map(repr, shown)) + caplog.text
    assert "[key]" in text and "HTTP 401" in text and KEY not in text and KEY[:12] not in text
    assert set(server.authorizations) == {f"Bearer {KEY}"}


def test_a_key_is_neither_stored_nor_copied_into_text() -> None:
    key = Secret(KEY)
    with pytest.raises(TypeError, match="never stored"):
        pickle.dumps(key)
    assert KEY not in f"{key} {key!r}" and copy.copy(Endpoint(model="m")) == Endpoint(model="m")


def test_a_key_with_a_line_break_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n{KEY}")
    with pytest.raises(ConfigError) as caught:
        Endpoint(model="m").key()
    assert "OPENAI_API_KEY" in str(caught.value) and KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [f"http://me:{KEY}@{rest}" for rest in ("host/v1", "host:80x/v1", "host:99999/v1", "[host/v1")]
    + [f"http://host/v1?key={KEY}", f"http://h/v1#{KEY}", f"http://h:x/v1?key={KEY}"],
)
def test_a_url_with_a_secret_is_refused_without_being_shown(url: str) -> None:
    model, place = read_place(f"m@{url}")
    with pytest.raises(ConfigError) as caught:
        Endpoint(model=model, url=place)
    assert "of the endpoint" in str(caught.value) and KEY not in str(caught.value)


def test_a_key_in_the_place_of_its_variable_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint(model="m", api_key_env=KEY)
    assert "name of the environment variable" in str(caught.value) and KEY not in str(caught.value)
    like_a_name = "AKIA0123456789EXAMPLE"
    refused = FakeServer(hello, faults=[Fault(kind="status", status=401)])
    error, client = asked(refused, api_key_env=like_a_name)
    assert "the variable that api_key_env names is not set" in str(error)
    assert like_a_name not in f"{error} {client.endpoint!r}"


def test_no_variable_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert Endpoint(model="m", api_key_env="").key().headers() == {}


HOSTS = "localhost:8000/v1 localhost 10.0.0.7/v1 gpu-3:8000 a.b.org/v1/ [::1]:80 gpu.example.com //gpu/api"
MODELS = "org/model@2:7b claude@20240229 @cf/meta/llama-3 m@main m@prod:2 x@sha256:12345678 m@localhost-x"


@pytest.mark.parametrize("host", HOSTS.split())
def test_a_host_without_a_scheme_is_not_taken_for_a_model_of_openai(host: str) -> None:
    with pytest.raises(ConfigError, match="without http://"):
        read_place(f"qwen@{host}")


@pytest.mark.parametrize("model", MODELS.split())
def test_models_with_a_sign_in_their_name(model: str) -> None:
    assert read_place(model)[0] == model


@pytest.mark.parametrize(
    "settings",
    [{"url": "localhost:8000"}, {"url": "http://host:x/v1"}, {"attempts": 0}, {"timeout_seconds": 0.0}],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Endpoint(model="m", **settings)
