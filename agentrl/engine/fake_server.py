"""A real HTTP server that speaks OpenAI's interface for a scripted model, and fails as it is told to.

It is the fake that we ship for servers, as `ScriptedEngine` is for engines: examples and tests run against
it over loopback, with real connections, and read from it what arrived.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from agentrl.engine.protocol import Chunk, Engine, Sampling
from agentrl.message import Action

Json = dict[str, Any]
Say = Callable[[Json], Action]
"""What the model says to a chat request."""
Kind = Literal["status", "slow", "reset", "cut", "malformed", "garbled", "silent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one request instead of an answer; a slow one is answered after all.

    The body of a malformed answer is no JSON; a garbled one is no HTTP.
    """

    kind: Kind
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    said: str = "out of order"
    """Message of a status; `{authorization}` stands for the header that the request carried."""
    seconds: float = 0.0


class FakeServer:
    """Serves one model by chat, or by token ids where it is given an engine.

    Args:
        say: Answers chat requests.
        engine: Answers `/v1/completions`; None: the path does not exist.
        model: Name of the model.
        faults: One for each of the first POST requests; None: that one is answered.
        returns_ids: Whether completions carry token ids.
    """

    def __init__(
        self,
        say: Say | None = None,
        *,
        engine: Engine | None = None,
        model: str = "scripted",
        faults: Iterable[Fault | None] = (),
        returns_ids: bool = True,
        max_model_len: int = 4096,
    ) -> None:
        self._say, self._engine, self._model = say, engine, model
        self._faults = iter(faults)
        self._returns_ids, self._max_model_len = returns_ids, max_model_len
        self.url = ""
        """With the port, once it serves."""
        self.requests: list[Json] = []
        """The bodies of all POST requests, in order."""
        self.authorizations: list[str] = []
        self.injected: list[Fault] = []
        self.open = 0
        """Requests under way."""
        self.left = 0
        """Requests whose connection the client closed before they were answered."""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeServer]:
        """Listen on a free port of the loopback device."""
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/v1/models", self._models)
        if self._say is not None:
            app.router.add_post("/v1/chat/completions", self._faulty(self._chat))
        if self._engine is not None:
            app.router.add_post("/v1/completions", self._faulty(self._complete))
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            yield self
        finally:
            await runner.cleanup()

    async def _models(self, request: web.Request) -> web.Response:
        self.authorizations.append(request.headers.get("Authorization", ""))
        return web.json_response({"data": [{"id": self._model, "max_model_len": self._max_model_len}]})

    def _faulty(self, answer: Callable[[web.Request, Json], Any]) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.json()
            self.requests.append(body)
            self.authorizations.append(request.headers.get("Authorization", ""))
            self.open += 1
            try:
                fault = next(self._faults, None)
                if fault is not None:
                    self.injected.append(fault)
                    early = await inject(fault, request)
                    if early is not None:
                        return early
                answered: web.StreamResponse = await answer(request, body)
                return answered
            except asyncio.CancelledError:
                self.left += 1
                raise
            finally:
                self.open -= 1

        return handle

    async def _chat(self, request: web.Request, body: Json) -> web.Response:
        assert self._say is not None
        return web.json_response(chat_answer(self._say(body), self._model))

    async def _complete(self, request: web.Request, body: Json) -> web.StreamResponse:
        assert self._engine is not None
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        sampling = Sampling(
            max_tokens=body["max_tokens"],
            temperature=body["temperature"],
            top_p=body["top_p"],
            stop_ids=frozenset(body["stop_token_ids"]),
            stop_strings=tuple(body["stop"]),
        )
        async for chunk in self._engine.generate(body["prompt"], sampling, seed=body["seed"]):
            for event in chunk_events(chunk, ids=self._returns_ids and body.get("return_token_ids", False)):
                await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response


def chat_answer(action: Action, model: str) -> Json:
    """Write an action as a chat server answers; arguments that were malformed are sent as they are."""
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
        for c in action.calls
    ]
    calls += [
        {"id": f"broken_{n}", "type": "function", "function": {"name": "broken", "arguments": text}}
        for n, text in enumerate(action.malformed)
    ]
    message: Json = {"role": "assistant", "content": action.text or None}
    message |= {"tool_calls": calls} if calls else {}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return {"model": model, "choices": [choice], "usage": {"completion_tokens": len(action.text)}}


def chunk_events(chunk: Chunk, *, ids: bool) -> Sequence[Json]:
    """Write a chunk as vLLM streams it, one event for each token."""
    events = []
    for i, (token, logp) in enumerate(
        zip(chunk.ids.tolist(), chunk.columns.untempered.tolist(), strict=True)
    ):
        last = i == len(chunk.ids) - 1
        choice: Json = {"index": 0, "text": "", "logprobs": {"token_logprobs": [logp]}}
        choice |= {"finish_reason": chunk.finish if last else None}
        events.append({"choices": [choice | ({"token_ids": [token]} if ids else {})]})
    return events


async def inject(fault: Fault, request: web.Request) -> web.StreamResponse | None:
    """Let a fault happen; None where the request is to be answered after all."""
    await asyncio.sleep(fault.seconds)
    match fault.kind:
        case "slow":
            return None
        case "status":
            said = fault.said.replace("{authorization}", request.headers.get("Authorization", ""))
            body = {"error": {"message": said, "type": "fault"}}
            return web.json_response(body, status=fault.status, headers=fault.headers)
        case "malformed":
            return web.Response(body=b'{"choices": [{"mess', content_type="application/json")
        case "garbled":
            assert request.transport is not None
            request.transport.write(b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n")
            request.transport.close()
        case "silent":
            await asyncio.Event().wait()
        case "reset":
            reset(request)
    return await cut(request)


def reset(request: web.Request) -> None:
    """Drop the connection as a crashed machine does: with RST, in the middle of nothing."""
    assert request.transport is not None
    raw: socket.socket = request.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


async def cut(request: web.Request) -> web.StreamResponse:
    """Begin an answer and close the connection before its end."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    if request.transport is not None and not request.transport.is_closing():
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"token_ids": [1], "text": "half')
        request.transport.close()
    return response
