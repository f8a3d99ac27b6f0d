"""Requests to an OpenAI-compatible server: bounded retries, named failures, no secret in what is raised."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import aiohttp

from agentrl.engine.endpoint import KEY_ENV, Endpoint, Secret
from agentrl.errors import ConfigError, EngineError, unknown
from agentrl.task import derive_seed

Said = TypeVar("Said")
Answer = TypeVar("Answer")
Reader = Callable[[aiohttp.ClientResponse], Awaitable[Said]]
Json = dict[str, Any]
AGAIN = frozenset({408, 409, 425, 429})
CALLERS_FAULT = frozenset({301, 302, 303, 307, 308, 401, 402, 403, 404, 405})
FULL = ("context_length_exceeded", "exceed_context_size", "maximum context length", "context size")
"""How OpenAI, llama.cpp and vLLM say that a conversation has become too long."""
LARGEST_ANSWER = 64 * 2**20
SHOWN_CHARACTERS = 300


class ContextFull(Exception):
    """The conversation is longer than the model's context: an outcome of what was said, not a failure."""


class HttpStatus(Exception):
    """A status that is no success; the text is what the server said."""

    def __init__(self, status: int, said: str, retry_after: str = "") -> None:
        super().__init__(f"HTTP {status}: {said}" if said else f"HTTP {status}")
        self.status, self.retry_after = status, retry_after


class BrokenAnswer(Exception):
    """What came back is no HTTP."""


class Unreadable(ValueError):
    """An answer that is not what the interface promises."""


class Client:
    """Sends requests to one endpoint over one session and counts them.

    Args:
        endpoint: Where to.
        session: Open connections; whoever made it closes it.
        key: Is sent as a bearer token.
    """

    def __init__(self, endpoint: Endpoint, session: aiohttp.ClientSession, key: Secret) -> None:
        self.endpoint = endpoint
        self._session, self._key = session, key
        self.requests = 0
        """Requests that were wanted, whatever became of them."""
        self.retries: Counter[str] = Counter()
        """Attempts that were made again, by what had gone wrong."""

    @property
    def facts(self) -> dict[str, Any]:
        """What is reported beside a score."""
        return {"requests": self.requests, "retries": dict(sorted(self.retries.items()))}

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        read: Reader[Said],
        parse: Callable[[Said], Answer],
        *,
        seed: int = 0,
    ) -> Answer:
        """Send a request until it is answered, and give what `parse` makes of what `read` reads.

        Raises:
            ContextFull: The conversation is too long for the model.
            ConfigError: Nobody would get an answer: a wrong key, model or path.
            EngineError: No attempt was answered, or the request itself was refused.
        """
        self.requests += 1
        for attempt in range(1, self.endpoint.attempts + 1):
            try:
                return await self._once(path, body, read, parse)
            except (aiohttp.ClientError, OSError, Unreadable, HttpStatus) as error:
                cause = self._without_key(error)
            if isinstance(cause, HttpStatus) and cause.status not in AGAIN and cause.status < 500:
                raise self._refused(cause) from cause
            if attempt < self.endpoint.attempts:
                self.retries[label(cause)] += 1
                await asyncio.sleep(self._wait(attempt, cause, seed))
        said = str(cause) or type(cause).__name__
        tries = f"{self.endpoint.attempts} attempt{'s' * (self.endpoint.attempts != 1)}"
        raise EngineError(f"{self.endpoint.place}: no answer in {tries}, the last: {said}") from cause

    async def _once(
        self, path: str, body: Mapping[str, Any], read: Reader[Said], parse: Callable[[Said], Answer]
    ) -> Answer:
        url, headers = self.endpoint.url + path, self._key.headers()
        async with self._session.post(url, json=body, headers=headers, allow_redirects=False) as response:
            await self.check(response)
            said = await read(response)
            try:
                return parse(self._key.hide_in(said))
            except RecursionError:
                raise Unreadable("an answer that is nested too deeply") from None

    async def check(self, response: aiohttp.ClientResponse) -> None:
        """Raise `HttpStatus` where the answer is no success."""
        if response.status != 200:
            said = shorten(self._key.hide_in(message_of(await whole(response))))
            raise HttpStatus(response.status, said, response.headers.get("Retry-After", ""))

    def _without_key(self, error: Exception) -> Exception:
        """Give an error that may be shown: what aiohttp raises can hold the headers of the request."""
        if isinstance(error, aiohttp.ClientResponseError):
            return BrokenAnswer(self._key.hide_in(f"an answer that is no HTTP ({error.message})"))
        return Unreadable(self._key.hide_in(str(error))) if isinstance(error, Unreadable) else error

    def _wait(self, attempt: int, cause: Exception, seed: int) -> float:
        asked = retry_after(cause.retry_after) if isinstance(cause, HttpStatus) else None
        if asked is not None:
            return min(asked, self.endpoint.max_wait_seconds)
        spread = 1 - derive_seed("backoff", seed, attempt) / 2**64
        return min(
            self.endpoint.backoff_seconds * 2.0 ** (attempt - 1) * spread, self.endpoint.max_wait_seconds
        )

    def _refused(self, cause: HttpStatus) -> Exception:
        if cause.status in (400, 413, 422) and any(words in str(cause).lower() for words in FULL):
            return ContextFull(str(cause))
        if cause.status in CALLERS_FAULT:
            return ConfigError(f"{self.endpoint.place}: {cause}{remedy(cause.status, self.endpoint)}")
        return EngineError(f"{self.endpoint.place} refused the request: {cause}")

    async def greet(self) -> Json:
        """Ask once what the server serves, so that a wrong address, key or model is told before any task.

        Returns:
            What it says of the model; empty where the server has no list of models.

        Raises:
            ConfigError: Nobody listens there, the key is refused, or the model is not in the list.
        """
        try:
            url, headers = self.endpoint.url + "/models", self._key.headers()
            async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                await self.check(response)
                listed = await read_json(response)
        except HttpStatus as error:
            if error.status in (401, 403):
                raise self._refused(error) from error
            return {}
        except aiohttp.ClientConnectorError as error:
            raise ConfigError(
                f"nobody answers at {self.endpoint.url} ({error.os_error}): start the server, or mend the URL"
            ) from None
        except (aiohttp.ClientError, OSError, Unreadable):
            return {}
        return self._listed(self._key.hide_in(listed))

    def _listed(self, listed: Json) -> Json:
        models = [m for m in listed.get("data") or [] if isinstance(m, dict) and isinstance(m.get("id"), str)]
        found: Json | None = next((m for m in models if m["id"] == self.endpoint.model), None)
        if models and found is None:
            known = [m["id"] for m in models]
            raise ConfigError(f"{self.endpoint.url}: {unknown('model', self.endpoint.model, known)}")
        return found or {}


@asynccontextmanager
async def open_client(endpoint: Endpoint) -> AsyncIterator[Client]:
    """Open connections to an endpoint and close them at the end, with what still runs on them."""
    timeout = aiohttp.ClientTimeout(
        total=endpoint.timeout_seconds, sock_connect=endpoint.connect_seconds, ceil_threshold=60
    )
    connector = aiohttp.TCPConnector(limit=0)  # how many run at once is up to the caller
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, cookie_jar=jar) as session:
        yield Client(endpoint, session, endpoint.key())


async def whole(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer to its end.

    Raises:
        Unreadable: It does not end.
    """
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            raise Unreadable(f"an answer of more than {LARGEST_ANSWER >> 20} MiB")
    return b"".join(parts)


async def read_json(response: aiohttp.ClientResponse) -> Json:
    """Read an answer that is one JSON object."""
    return as_object(await whole(response))


async def read_events(response: aiohttp.ClientResponse) -> list[Json]:
    """Read a stream of server-sent events up to `[DONE]`.

    Raises:
        Unreadable: It ends before, or an event is an error or no JSON object.
    """
    events: list[Json] = []
    rest, size = b"", 0
    async for part in response.content.iter_any():
        *lines, rest = (rest + part).split(b"\n")
        size += len(part)
        if size > LARGEST_ANSWER:
            raise Unreadable(f"a stream of more than {LARGEST_ANSWER >> 20} MiB")
        for line in lines:
            words = line.strip().removeprefix(b"data:").strip()
            if words == b"[DONE]":
                return events
            if line.startswith(b"data:"):
                events.append(as_object(words))
                if "error" in events[-1]:
                    raise Unreadable(f"an error in the stream: {message_of(words)}")
    raise Unreadable(f"the stream was cut after {len(events)} events: it has no [DONE]")


def as_object(data: bytes) -> Json:
    """Read a JSON object."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"an answer that is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise Unreadable(f"an answer that is a JSON {type(value).__name__} and no object")
    return value


def message_of(data: bytes) -> str:
    """Give what a server says of an error, in one line.

    >>> message_of(b'{"error": {"message": "no such model", "code": "model_not_found"}}')
    'no such model (model_not_found)'
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = data.decode(errors="replace")
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, dict):
        code = error.get("code") or error.get("type")
        said = error.get("message") or error.get("detail") or json.dumps(error)
        error = f"{said} ({code})" if isinstance(code, str) else said
    return " ".join(str(error).split())


def shorten(line: str) -> str:
    """Cut what a server says of an error."""
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


def retry_after(text: str) -> float | None:
    """Read a Retry-After header: seconds, or a date.

    >>> retry_after("1.5"), retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), retry_after("soon")
    (1.5, 0.0, None)
    """
    try:
        return max(0.0, float(text)) if float(text) == float(text) else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError):
        return None


def label(cause: Exception) -> str:
    """Name a cause in a count."""
    return f"HTTP {cause.status}" if isinstance(cause, HttpStatus) else type(cause).__name__


def remedy(status: int, endpoint: Endpoint) -> str:
    """Say what helps against a status that is the caller's fault."""
    if status in (401, 403):
        if endpoint.key().headers():
            return f"; {endpoint.api_key_env} holds a key that is refused"
        usual = endpoint.api_key_env == KEY_ENV  # another one may be the key itself, by mistake
        return f"; {KEY_ENV if usual else 'the variable that api_key_env names'} is not set"
    if status in (404, 405):
        return f"; is {endpoint.model!r} served there, and does the URL end in /v1?"
    return "; name the address that it leads to" if 300 <= status < 400 else ""
