"""The fork server: a warm interpreter that runs no foreign code and forks one sandbox after the other.

It talks to its host in whole messages over one socket, ends when the host ends, and while foreign code
runs in its children it watches what they use, whatever the host is busy with.
"""

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass

from agentrl.tools.sandbox.guest import interpreter, kernel, watch, wire
from agentrl.tools.sandbox.guest.confine import Settings, make_walls

NUMBER = struct.Struct("<q")
"""Of the sandbox to fork; the name of its folder follows."""
FORKED = struct.Struct("<qi")
"""Number of the sandbox and of its process, whose pidfd comes along; a negative one is an error number."""
EXITED = struct.Struct("<qi12s")
"""Number of the sandbox, wait status, why the zygote killed it."""
_WATCH_SECONDS, _LONGEST_WATCH_SECONDS, _WATCH_SHARE = 0.05, 0.2, 20
"""The pause between two looks grows with the CPU time that one takes; hostile code cannot stretch it far."""
_CPU_SLACK_SECONDS = 0.25
"""RLIMIT_CPU has whole seconds and strikes a little early."""

_HIDDEN_FILES = 4
"""A file that is deleted, closed and still mapped counts as this share of the disk limit where its size
cannot be asked; that is, more than so many of them are too many."""


@dataclass(slots=True)
class _Child:
    number: int
    pid: int
    pidfd: int
    folder: int
    used: watch.CpuTotal
    reason: bytes = b""


class Zygote:
    """Forks sandboxes and buries them; `serve` is its whole life."""

    def __init__(self, control: socket.socket, host_pidfd: int, settings: Settings) -> None:
        self._control, self._host, self._settings = control, host_pidfd, settings
        for name in settings.preload:
            importlib.import_module(name)
        self._walls = make_walls(settings)
        self._interpreter = interpreter.Interpreter(settings.emit_bytes, settings.prelude)
        self._children: dict[int, _Child] = {}
        self._poll = select.epoll()
        self._next_watch = 0.0
        self._memory_bytes = settings.memory_bytes + watch.own_resident_bytes()

    def serve(self) -> None:
        """Fork on demand until the host closes the control socket or dies."""
        self._poll.register(self._control, select.EPOLLIN)
        self._poll.register(self._host, select.EPOLLIN)
        self._control.send(b"up")
        gc.collect()
        gc.freeze()
        kernel.trim_heap()
        while True:
            for descriptor, _ in self._poll.poll(self._pause()):
                if descriptor == self._host:
                    return
                if descriptor != self._control.fileno():
                    self._bury(self._children.pop(descriptor))
                elif not self._take_order():
                    return
            if self._is_watching() and time.monotonic() >= self._next_watch:
                self._watch()

    def _is_watching(self) -> bool:
        return bool(self._children) and self._settings.level != "none"

    def _pause(self) -> float | None:
        return max(0.0, self._next_watch - time.monotonic()) if self._is_watching() else None

    def _take_order(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, 64, 2)
        if not message:
            return False
        (number,) = NUMBER.unpack_from(message)
        try:
            self._fork(number, message[NUMBER.size :].decode(), *descriptors)
        except OSError as error:
            self._control.send(FORKED.pack(number, -(error.errno or 1)))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _fork(self, number: int, name: str, channel: int, output: int) -> None:
        folder = self._walls.before_fork(name)
        try:
            pid = os.fork()
        except OSError:
            _close(folder)
            raise
        if pid == 0:
            self._become_sandbox(number, folder, channel, output)
        child = _Child(number, pid, os.pidfd_open(pid), folder, watch.CpuTotal())
        self._children[child.pidfd] = child
        self._poll.register(child.pidfd, select.EPOLLIN)
        socket.send_fds(self._control, [FORKED.pack(number, pid)], [child.pidfd])

    def _become_sandbox(self, number: int, folder: int, channel: int, output: int) -> None:
        try:
            os.dup2(output, 1)
            os.dup2(output, 2)
            self._walls.enter(number, folder)
            channel = os.dup2(channel, 3)
            os.closerange(4, 1 << 16)
            self._interpreter.serve(channel)
        except BaseException as error:
            words = f"{type(error).__name__}: {error}".encode()
            interpreter.write_all(channel, wire.frame(wire.FAILED, 0, words))
        finally:
            os._exit(0)

    def _bury(self, child: _Child) -> None:
        self._poll.unregister(child.pidfd)
        os.close(child.pidfd)
        _close(child.folder)
        _, status, used = os.wait4(child.pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if killed and used.ru_utime + used.ru_stime > self._settings.cpu_seconds - _CPU_SLACK_SECONDS:
            child.reason = child.reason or b"cpu"  # the kernel was faster than the next look
        self._control.send(EXITED.pack(child.number, status, child.reason))

    def _watch(self) -> None:
        started = time.process_time()
        roots = {child.pid: child for child in self._children.values()}
        for pid, tree in watch.trees(roots, alone=self._settings.level != "namespaces").items():
            child = roots[pid]
            child.reason = child.reason or self._exceeded(child, tree)
            if child.reason:
                signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
        pause = min(_WATCH_SECONDS + _WATCH_SHARE * (time.process_time() - started), _LONGEST_WATCH_SECONDS)
        self._next_watch = time.monotonic() + pause

    def _exceeded(self, child: _Child, tree: list[watch.Process]) -> bytes:
        settings = self._settings
        if child.used.add(tree) > settings.cpu_seconds:
            return b"cpu"
        if sum(process.threads for process in tree) > settings.processes:
            return b"processes"
        if sum(process.resident_bytes for process in tree) > self._memory_bytes:
            if sum(map(watch.proportional_bytes, tree)) > self._memory_bytes:
                return b"memory"
        if settings.level == "landlock":
            folder = f"/proc/self/fd/{child.folder}"
            size, entries = watch.disk_use(folder, stop_at=settings.files)
            hidden = watch.deleted_bytes(child.pid, unknown=settings.disk_bytes // _HIDDEN_FILES)
            if size + hidden > settings.disk_bytes or entries > settings.files:
                return b"disk"
        return b""


def _close(folder: int) -> None:
    if folder >= 0:
        os.close(folder)


def main(control: int, host_pidfd: int, settings: dict[str, object]) -> None:
    """Serve; called by the line that unpacks these modules, with settings as they came in JSON."""
    lists = {key: tuple(value) for key, value in settings.items() if isinstance(value, list)}
    own = Settings(**{**settings, **lists})  # type: ignore[arg-type]
    sys.path += own.import_paths
    sys.dont_write_bytecode = True
    if own.level != "none":
        kernel.wipe_environment()
        kernel.use_one_arena()
        kernel.be_the_first_to_go()
        os.putenv("OPENBLAS_NUM_THREADS", "1")  # one per core would hit the limits; not seen in os.environ
    gc.disable()
    # Else a sandbox that wakes up takes the trainer's processor at once.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    zygote = Zygote(socket.socket(fileno=control), host_pidfd, own)
    for name in [name for name in sys.modules if name.partition(".")[0] == "agentrl"]:
        del sys.modules[name]  # nothing of the framework can be imported in a sandbox
    zygote.serve()
