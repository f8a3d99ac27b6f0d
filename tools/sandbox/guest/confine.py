"""Walls: what a process that was just forked does to itself before it runs anybody's code.

Any step that fails raises; then nothing is run. The order matters: rights are used first and given up last.
"""

import errno
import os
import resource
from dataclasses import dataclass

from agentrl.tools.sandbox.guest import kernel, landlock, seccomp

_INSIDE_USER = 1000
_DESCRIPTORS = 64
"""Per process; few, because nobody counts what the kernel keeps in pipes and socket pairs."""
USERS = 4096
"""Sandboxes alive at once whose user numbers differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the host tells the zygote once, as plain data."""

    level: str
    cpu_seconds: float
    memory_bytes: int
    emit_bytes: int
    disk_bytes: int
    files: int
    processes: int
    first_user: int
    """The first of `USERS` numbers that sandboxes may take as their user; 0: all keep the zygote's user."""
    import_paths: tuple[str, ...]
    preload: tuple[str, ...]
    prelude: str
    readable: tuple[str, ...] = ()
    """Landlock: what the zygote keeps in reach for itself and all sandboxes."""
    roots: tuple[str, ...] = ()
    """Landlock: folders around all of `readable`; a second, short list is what a sandbox can afford."""
    folders: str = ""
    """Landlock: where each sandbox gets its private folder, by a name that the host gives."""


class NamespaceWalls:
    """Own mounts, processes and user: nothing of the host or of another sandbox has a name in here.

    The zygote's namespaces keep network and System V IPC from the host; the filter denies both to sandboxes,
    so that none needs more of its own.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._bare_bytes = settings, _address_space()
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._zygotes_proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
        self._filter = kernel.make_filter(seccomp.for_namespaces(kernel.MACHINE))
        self._size = f"size={settings.disk_bytes},nr_inodes={settings.files + 1},mode=700,uid="

    def before_fork(self, name: str) -> int:
        """Make the next child the first process of a namespace: when it dies, all in there die."""
        kernel.setns(self._own_pids, kernel.NEW_PIDS)
        kernel.unshare(kernel.NEW_PIDS)
        return -1

    def enter(self, number: int, folder: int) -> None:
        settings = self._settings
        user = settings.first_user + number % USERS if settings.first_user else os.getuid()
        os.setsid()  # the scheduler shares the processors out by session, so no tree starves another
        kernel.unshare(kernel.NEW_MOUNTS)
        kernel.mount(b"", b"/", kernel.RECURSIVE | kernel.PRIVATE, b"")
        self._mount(user)
        if settings.first_user:
            kernel.keep_capabilities_across_setuid()
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            kernel.make_dumpable()
        kernel.unshare(kernel.NEW_USER)
        _map_user(self._zygotes_proc, user, user if settings.first_user else os.getgid())
        os.chdir("/tmp")
        limit_resources(settings, self._bare_bytes, processes=settings.processes)
        kernel.no_new_privileges()
        kernel.drop_capabilities()
        kernel.filter_system_calls(self._filter)

    def _mount(self, user: int) -> None:
        flags = kernel.NO_SUID | kernel.NO_DEV
        # what can be written in /proc is not for a sandbox: it could put off being the first to go
        proc = flags | kernel.NO_EXEC | kernel.READ_ONLY
        kernel.mount(b"tmpfs", b"/tmp", flags, f"{self._size}{user}".encode())
        try:
            kernel.mount(b"proc", b"/proc", proc, b"subset=pid")
        except OSError as error:
            if error.errno != errno.EINVAL:  # before Linux 5.8
                raise
            kernel.mount(b"proc", b"/proc", proc, b"")


class LandlockWalls:
    """One process, confined by Landlock, seccomp and rlimits: what works where namespaces are forbidden."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._bare_bytes = settings, _address_space()
        readable = _open_paths((*settings.readable, "/proc"))
        writable = _open_paths((settings.folders, "/dev/null"))
        kernel.no_new_privileges()
        landlock.restrict(readable, writable)  # holds for all sandboxes; each adds a layer of its own
        for descriptor in readable + writable:
            os.close(descriptor)
        self._zygote = os.getpid()
        self._program = seccomp.for_landlock(kernel.MACHINE)
        self._readable, self._null = _open_paths(settings.roots), _open_paths(("/dev/null",))

    def before_fork(self, name: str) -> int:
        """Open a private folder; its name is not kept: a fork's memory must not tell of its neighbours."""
        return _new_folder(f"{self._settings.folders}/{name}")

    def enter(self, number: int, folder: int) -> None:
        settings = self._settings
        os.setsid()
        if settings.first_user:
            user = settings.first_user + number % USERS
            os.fchown(folder, user, user)
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            kernel.make_dumpable()
        os.fchdir(folder)
        landlock.restrict(self._readable, [*_open_paths((".",)), *self._null])
        # counted per user: of no use where the user is the host's own
        limit_resources(
            settings, self._bare_bytes, processes=settings.processes if settings.first_user else None
        )
        kernel.die_with_parent(self._zygote)
        kernel.drop_capabilities()
        kernel.filter_system_calls(kernel.make_filter(seccomp.for_process(self._program, os.getpid())))


class NoWalls:
    """Nothing but a session of its own: for `--unsafe-local`."""

    def __init__(self, settings: Settings) -> None:
        self._folders, self._zygote = settings.folders, os.getpid()

    def before_fork(self, name: str) -> int:
        return _new_folder(f"{self._folders}/{name}")

    def enter(self, number: int, folder: int) -> None:
        os.setsid()
        kernel.die_with_parent(self._zygote)
        os.fchdir(folder)


def _new_folder(path: str) -> int:
    os.mkdir(path, 0o700)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _open_paths(paths: tuple[str, ...]) -> list[int]:
    return [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths if os.path.exists(path)]


Walls = NamespaceWalls | LandlockWalls | NoWalls


def make_walls(settings: Settings) -> Walls:
    """The walls of the level that the settings name."""
    kinds: dict[str, type[Walls]] = {"namespaces": NamespaceWalls, "landlock": LandlockWalls, "none": NoWalls}
    return kinds[settings.level](settings)


def _map_user(proc: int, user: int, group: int) -> None:
    for name, text in (
        ("uid_map", f"{_INSIDE_USER} {user} 1"),
        ("setgroups", "deny"),
        ("gid_map", f"{_INSIDE_USER} {group} 1"),
    ):
        descriptor = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(descriptor, text.encode())
        os.close(descriptor)


def _address_space() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def limit_resources(settings: Settings, bare_bytes: int, *, processes: int | None) -> None:
    """Set what the kernel itself enforces on each process; the tree as a whole is watched by the zygote."""
    for name, value in _resource_limits(settings, bare_bytes):
        resource.setrlimit(name, (value, value))
    if processes is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))


def _resource_limits(settings: Settings, bare_bytes: int) -> tuple[tuple[int, int], ...]:
    return (
        (resource.RLIMIT_AS, bare_bytes + settings.memory_bytes),
        (resource.RLIMIT_CPU, max(1, round(settings.cpu_seconds))),
        (resource.RLIMIT_FSIZE, settings.disk_bytes),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 1 << 16),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 256),
    )
