"""The loop of the interpreter in a sandbox: read code, run it, say how it ended.

From the first line of foreign code on, everything that this process sends is that code's word.
"""

import _thread
import builtins
import errno
import gc
import io
import linecache
import os
import socket
import sys
import traceback
import types

from agentrl.tools.sandbox.guest import wire

_MAX_ERROR = 16_000
_MAX_GREETING = 2_000
_PRELUDE = "<prelude>"


def read_exactly(channel: int, size: int) -> bytes:
    """Exactly so many bytes, or b'' where the other side has closed."""
    parts: list[bytes] = []
    while size:
        part = os.read(channel, min(size, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def write_all(channel: int, data: bytes) -> None:
    """Write every byte."""
    view = memoryview(data)
    while view:
        view = view[os.write(channel, view) :]


class Interpreter:
    """Made by the zygote before it forks, on descriptors 0 to 2 as they will be; used by one child."""

    def __init__(self, emit_bytes: int, prelude: str) -> None:
        self._sender = _Sender(emit_bytes)
        self._prelude = compile(prelude, _PRELUDE, "exec", dont_inherit=True) if prelude else None
        self._module = types.ModuleType("__main__")
        sys.stdin, sys.stdout, sys.stderr = _text(0, "r"), _text(1, "w"), _text(2, "w")
        self._streams = (sys.stdout, sys.stderr)
        sys.modules["__main__"] = self._module
        vars(builtins).update(emit=self._sender.emit, exit=sys.exit, quit=sys.exit)
        self._rehearse()

    def _rehearse(self) -> None:
        """Run the whole path a few times: what is made on first use need not be made anew in each child."""
        mine, theirs = socket.socketpair()
        self._sender.channel = theirs.fileno()
        for code in ("x = sum(range(9))", "1 / 0") * 10:
            mine.sendall(wire.frame(wire.RUN, 1, code.encode()))
            self._serve_one(theirs.fileno(), {})
            mine.recv(1 << 16)
        self._sender.start(0)
        linecache.clearcache()
        mine.close()
        theirs.close()

    def serve(self, channel: int) -> None:
        """Run the prelude, then what the host sends, in one namespace, until it closes the channel.

        The greeting is empty, or says how the prelude failed.
        """
        gc.enable()
        failed = self._run_prelude() if self._prelude else ""
        self._sender.channel = channel
        self._sender.start(0)
        self._sender.send(wire.READY, failed.encode("utf-8", "backslashreplace")[-_MAX_GREETING:])
        while self._serve_one(channel, vars(self._module)):
            pass

    def _run_prelude(self) -> str:
        """How it failed; what it shows and emits is thrown away."""
        output, null = os.dup(1), os.open("/dev/null", os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(null, descriptor)
        self._sender.channel = null
        try:
            exec(self._prelude, vars(self._module))  # type: ignore[arg-type]
        except BaseException as caught:  # the author of the environment is told
            return _describe(caught, _PRELUDE)
        finally:
            for stream in self._streams:
                stream.flush()
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            os.close(output)
            os.close(null)
        return ""

    def _serve_one(self, channel: int, names: dict[str, object]) -> bool:
        """Whether there was a call."""
        home = os.getpid()
        head = read_exactly(channel, wire.FRAME.size)
        if not head:
            return False
        size, _, call = wire.FRAME.unpack(head)
        self._sender.start(call)
        code = read_exactly(channel, size).decode("utf-8", "surrogatepass")
        ending = _execute(code, f"<call {call}>", names, self._streams)
        if os.getpid() != home:  # the code forked and its child came back here
            os._exit(0)
        self._sender.send(wire.DONE, ending)
        return True


def _text(descriptor: int, mode: str) -> io.TextIOWrapper:
    raw = open(descriptor, mode + "b", buffering=1 << 13, closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=mode == "w")


class _Sender:
    def __init__(self, emit_bytes: int) -> None:
        self.channel, self._emit_bytes = -1, emit_bytes
        self._lock, self._call, self._left = _thread.allocate_lock(), 0, 0

    def start(self, call: int) -> None:
        self._call, self._left = call, self._emit_bytes

    def send(self, kind: int, payload: bytes) -> None:
        with self._lock:
            write_all(self.channel, wire.frame(kind, self._call, payload))

    def emit(self, value: object, /) -> None:
        """Send a value made of built-in types out of the sandbox, as data."""
        payload = wire.encode(value)
        size = len(payload) + wire.VALUE_COST
        if size > self._left:
            raise ValueError(
                f"emit: {size} bytes, but {self._left} of {self._emit_bytes} are left in this call"
            )
        self._left -= size
        self.send(wire.VALUE, payload)


def _execute(code: str, name: str, names: dict[str, object], streams: tuple[object, ...]) -> bytes:
    error, limit = "", ""
    try:
        try:
            linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
            exec(compile(code, name, "exec", dont_inherit=True), names)
        finally:
            for stream in streams:
                stream.flush()  # type: ignore[attr-defined]
    except SystemExit as exit_:
        error = "" if exit_.code in (None, 0) else f"SystemExit: {exit_.code}"[:_MAX_ERROR]
    except BaseException as caught:  # whatever the code raised is what the caller wants to read
        error, limit = _describe(caught, name), _limit_of(caught)
    return wire.encode((error.encode("utf-8", "backslashreplace").decode(), limit))


def _describe(caught: BaseException, name: str) -> str:
    try:
        return _traceback(caught, name)
    except BaseException:  # formatting runs the code's own __str__, perhaps with no memory left
        return type(caught).__name__


def _traceback(caught: BaseException, name: str) -> str:
    """From the first frame of the caller's code on."""
    trace = caught.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != name:
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(caught), caught, trace)).rstrip()
    if len(text) <= _MAX_ERROR:
        return text
    return f"{text[: _MAX_ERROR // 2]}\n... [cut] ...\n{text[-_MAX_ERROR // 2 :]}"


def _limit_of(caught: BaseException) -> str:
    if isinstance(caught, MemoryError):
        return "memory"
    if isinstance(caught, OSError) and caught.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return "disk"
    if isinstance(caught, BlockingIOError) or "can't start new thread" in str(caught.args[:1]):
        return "processes"
    return "memory" if isinstance(caught, OSError) and caught.errno == errno.ENOMEM else ""
