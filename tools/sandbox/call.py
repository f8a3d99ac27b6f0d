"""One call into a sandbox, seen from the host: collect what comes back and believe none of it."""

import asyncio
import os
from typing import get_args

from agentrl.tools.sandbox.guest import wire
from agentrl.tools.sandbox.types import Data, LimitName, Limits

_CHUNK = 1 << 16
_OVERHEAD = 1 << 20
"""Bytes beyond the emitted values, its own and late ones of the call before, that one call may send."""
MAX_ERROR = 20_000
"""Characters; an honest interpreter sends fewer."""
FLOOD = 1024
"""A call that writes this many times what is kept of its output is killed."""


class Call:
    """Reads a sandbox's channel and output until the call is over; `ended` then holds why.

    `ended` is 'done', 'closed' (the channel), 'malformed', 'flood' or 'wall' (its time). `unread` is the
    sandbox's own: what threads of an earlier call sent after its end stands there, perhaps up to the middle
    of a frame.
    """

    def __init__(self, number: int, channel: int, output: int, limits: Limits, unread: bytearray) -> None:
        self._number, self._channel, self._output, self._limits = number, channel, output, limits
        self._most = 2 * limits.emit_bytes + _OVERHEAD
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.values: list[Data] = []
        self.error, self.limit = "", ""
        self._buffer, self._received = unread, 0
        self._kept, self._written = bytearray(), 0

    def hang_up(self) -> None:
        """Read what is already there of the output."""
        for _ in range(32):
            if self.read_output() <= 0:
                break

    def text(self) -> str:
        """The output as text, cut at the limit."""
        text = self._kept.decode(errors="replace")
        if self._written <= len(self._kept):
            return text
        return f"{text}\n[output cut: {self._written} bytes written, {len(self._kept)} kept]"

    @property
    def was_cut(self) -> bool:
        return self._written > len(self._kept)

    def end(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_result(why)

    def read_output(self) -> int:
        """How many bytes there were; 0 where the other side has closed, -1 where nothing has come."""
        try:
            data = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return -1
        self._written += len(data)
        self._kept += data[: max(0, self._limits.output_bytes - len(self._kept))]
        if self._written > FLOOD * self._limits.output_bytes:
            self.end("flood")
        return len(data)

    def read_channel(self) -> None:
        """Take the frames that have come."""
        try:
            data = os.read(self._channel, _CHUNK)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            return self.end("closed")
        self._buffer += data
        self._received += len(data)
        try:
            if self._received > self._most:
                raise wire.WireError("more than a call may send")
            self._take_frames()
        except wire.WireError as error:
            self.error = str(error)
            self.end("malformed")

    def _take_frames(self) -> None:
        head = wire.FRAME.size
        while len(self._buffer) >= head and not self.ended.done():
            size, kind, number = wire.FRAME.unpack_from(self._buffer)
            if size > self._most:
                raise wire.WireError(f"a frame of {size} bytes")
            if len(self._buffer) < head + size:
                return
            payload = bytes(self._buffer[head : head + size])
            del self._buffer[: head + size]
            if number == self._number:
                self._take(kind, payload)
            elif number > self._number:
                raise wire.WireError(f"a frame of call {number} during call {self._number}")

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == wire.VALUE:
            self.values.append(wire.decode(payload))
            if len(self.values) * wire.VALUE_COST > self._limits.emit_bytes:
                raise wire.WireError("more values than a call may send")
        elif kind == wire.DONE:
            self.error, self.limit = _ending(wire.decode(payload))
            self.end("done")
        else:
            raise wire.WireError(f"a frame of unknown kind {kind}")


def _ending(value: object) -> tuple[str, str]:
    match value:
        case (str(error), str(limit)) if limit == "" or limit in get_args(LimitName):
            return error[:MAX_ERROR], limit
    raise wire.WireError("an ending that is none")
