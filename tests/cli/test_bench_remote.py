"""`agentrl bench ENV --policy openai:MODEL@URL` against a real server, as a user runs it."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrl.engine.fake_server import FakeServer, Fault
from tests.cli.conftest import Run
from tests.remote.serving import KEY, buyer

SHOP = (Path(__file__).parents[1] / "remote/serving.py").resolve()
HURRY = ["--set", "policy.backoff_seconds=0.002", "--set", "policy.max_wait_seconds=0.2"]
Start = Callable[..., FakeServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Give what starts a server in a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    contexts: list[Any] = []

    def begin(*args: Any, **settings: Any) -> FakeServer:
        contexts.append(FakeServer(*args, **settings).serve())
        opened = asyncio.run_coroutine_threadsafe(contexts[-1].__aenter__(), loop)
        server: FakeServer = opened.result(10)
        return server

    yield begin
    for context in contexts:
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def bench(server: FakeServer, *words: str) -> list[str]:
    return ["bench", f"{SHOP}:Shop", "--policy", f"openai:scripted@{server.url}", "--tasks", "6", *words]


def test_a_model_behind_a_server_is_measured_through_its_faults(
    agentrl: Run, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHOP_KEY", KEY)
    faults = [
        Fault(kind="status", status=429, said="{authorization}"),
        Fault(kind="cut"),
        Fault(kind="reset"),
    ]
    server = start(buyer, faults=faults)
    ended = agentrl(*bench(server, "--json", "--set", "policy.api_key_env=SHOP_KEY", *HURRY))
    (row,) = ended.data["results"]
    assert (row["success"], row["episodes"], row["failures"], row["calls"]) == (1.0, 6, {}, 12)
    assert row["endpoint"]["requests"] == 12 and sum(row["endpoint"]["retries"].values()) == 3
    assert row["endpoint"]["retries"]["HTTP 429"] == 1 and len(server.requests) == 15
    assert set(server.authorizations) == {f"Bearer {KEY}"}
    assert KEY not in ended.out + ended.err
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and KEY.encode() in f.read_bytes()]


def test_a_dead_server_is_one_line_that_names_it(agentrl: Run, start: Start) -> None:
    server = start(buyer, faults=[Fault(kind="status", status=500)] * 99)
    said = agentrl(*bench(server, "--set", "policy.attempts=2", *HURRY)).complaint
    assert "(6 engine)" in said and "no answer in 2 attempts, the last: HTTP 500: out of order" in said


def test_some_failed_episodes_are_counted_apart(agentrl: Run, start: Start) -> None:
    server = start(buyer, faults=[Fault(kind="malformed")] * 2)
    ended = agentrl(*bench(server, "--set", "policy.attempts=1", *HURRY))
    assert "2 engine" in ended.out and "first failure: scripted@http://" in ended.out
    assert "10 requests, sent again: none" in ended.out


@pytest.mark.parametrize(
    ("policy", "setting", "said"),
    [
        ("openai:scriptd@{url}", "policy.at_once=2", "no model 'scriptd'; did you mean 'scripted'?"),
        ("openai:scripted@{url}", "policy.temprature=0", "did you mean 'temperature'?"),
        ("openai:scripted@{url}", "policy.attempts=x", "attempts='x' is str: it must be int"),
        ("openai:scripted@{url}", "policy.tokenizer=none.such", "no model folder 'none.such'"),
        ("openai:scripted@http://127.0.0.1:9/v1", "policy.at_once=2", "start the server, or mend the URL"),
        (f"openai:m@http://me:{KEY}@host/v1", "policy.at_once=2", "put the key into the environment"),
        ("random", "policy.temperature=0", "--set policy.temperature is for a model behind a server"),
        ("openai:", "policy.at_once=2", "openai:MODEL@http://HOST:PORT/v1"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    policy: str, setting: str, said: str, agentrl_here: Run, start: Start
) -> None:
    server = start(buyer)
    words = ["bench", f"{SHOP}:Shop", "--policy", policy.format(url=server.url), "--set", setting]
    complaint = agentrl_here(*words).complaint
    assert said in complaint and KEY not in complaint and not server.requests
