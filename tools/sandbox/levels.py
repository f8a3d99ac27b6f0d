"""The isolation levels: how each one's zygote is started, what it guarantees and what it needs."""

import glob
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass

from agentrl.errors import SandboxUnavailable
from agentrl.tools.sandbox import image
from agentrl.tools.sandbox.guest import kernel
from agentrl.tools.sandbox.guest.confine import Settings
from agentrl.tools.sandbox.types import LevelName, Plan
from agentrl.tools.sandbox.users import first_user, open_to_all

_SYSTEM_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")
_DEVICES = {"null": "null", "zero": "full", "full": "full", "random": "random", "urandom": "urandom"}
"""What stands under which name: /dev/full reads as zeros too, but gives no shared memory when mapped."""
_LANDLOCK_DEVICES = ("/dev/random", "/dev/urandom")
_PACKAGES = "/packages"

REMEDY: dict[str, str] = {
    "namespaces": "install bubblewrap (`apt-get install bubblewrap`) and allow user namespaces",
    "landlock": "use Linux 5.13 or newer with Landlock switched on (`lsm=landlock,...`)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start one level's zygote: the arguments follow `wrapper`; `environment` is all that it gets."""

    settings: Settings
    python: str
    wrapper: tuple[str, ...]
    environment: dict[str, str]


def prepare(plan: Plan, folders: str) -> Launch:
    """Make ready to start a level's zygote.

    Args:
        folders: A new folder of the host for what the level must keep on disk.

    Raises:
        SandboxUnavailable: The level cannot work here.
    """
    if plan.level == "namespaces":
        return _namespaces(plan)
    if plan.level == "landlock":
        return _landlock(plan, folders)
    settings = _settings(plan, folders=folders, import_paths=())
    return Launch(settings=settings, python=sys.executable, wrapper=(), environment=dict(os.environ))


def first_user_of(level: LevelName, folders: str = "") -> int:
    """The first of the user numbers that a level's sandboxes take here; 0: they keep this process's user.

    With Landlock the files of Python itself must be open to those users.
    """
    needed = (sys.base_prefix, *image.package_folders().values(), folders or tempfile.gettempdir())
    if level == "namespaces" or (level == "landlock" and all(map(open_to_all, needed))):
        return first_user()
    return 0


def _settings(
    plan: Plan,
    *,
    import_paths: tuple[str, ...],
    first_user: int = 0,
    readable: tuple[str, ...] = (),
    roots: tuple[str, ...] = (),
    folders: str = "",
) -> Settings:
    limits = plan.limits
    return Settings(
        level=plan.level,
        cpu_seconds=limits.cpu_seconds,
        memory_bytes=limits.memory_bytes,
        emit_bytes=limits.emit_bytes,
        disk_bytes=limits.disk_bytes,
        files=limits.files,
        processes=limits.processes,
        first_user=first_user,
        import_paths=import_paths,
        preload=plan.preload,
        prelude=plan.prelude,
        readable=readable,
        roots=roots,
        folders=folders,
    )


def _namespaces(plan: Plan) -> Launch:
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        raise SandboxUnavailable("bubblewrap is not installed")
    python = image.base_python()
    settings = _settings(plan, import_paths=(_PACKAGES,), first_user=first_user_of(plan.level))
    view = (*_system(), *_python_folders(), *_hidden(), *_devices(), "--remount-ro", "/")
    # no random seed for hashing: how a set of texts prints must not differ between two equal runs
    wrapper = (bubblewrap, *_walls(), *view, "--setenv", "PYTHONHASHSEED", "0", "--")
    return Launch(settings=settings, python=python, wrapper=wrapper, environment={})


def _walls() -> list[str]:
    walls = [f"--unshare-{kind}" for kind in ("pid", "net", "ipc", "uts", "cgroup-try")]
    walls += ["--as-pid-1", "--new-session"]
    capabilities = ["CAP_SYS_ADMIN"]
    if os.geteuid() == 0:
        capabilities += ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_SYS_PTRACE", "CAP_KILL"]
    else:
        walls.append("--unshare-user")
    walls += ["--cap-drop", "ALL"]
    return walls + [word for name in capabilities for word in ("--cap-add", name)]


def _system() -> list[str]:
    words = ["--ro-bind", "/usr", "/usr", "--dir", "/etc"]
    for path in _SYSTEM_LINKS:
        if os.path.islink(path):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            words += ["--ro-bind", path, path]
    for path in _SYSTEM_FILES:
        words += ["--ro-bind-try", path, path]
    return words


def _python_folders() -> list[str]:
    words: list[str] = []
    if not _within(sys.base_prefix, "/usr"):
        words += [*_folders_above(sys.base_prefix), "--ro-bind", sys.base_prefix, sys.base_prefix]
    words += ["--dir", _PACKAGES]
    for name, folder in image.package_folders().items():
        words += ["--ro-bind", folder, f"{_PACKAGES}/{name}"]
    return words


def _folders_above(path: str) -> list[str]:
    """Make the folders on the way to a path, which bubblewrap would make for its own user only."""
    above: list[str] = []
    while (path := os.path.dirname(path)) != "/":
        above = ["--dir", path, *above]
    return above


def _hidden() -> list[str]:
    visible = ("/usr", sys.base_prefix)
    folders = [path for path in image.hidden_folders() if any(_within(path, root) for root in visible)]
    return [word for path in folders for word in ("--tmpfs", path, "--remount-ro", path)]


def _devices() -> list[str]:
    words = ["--proc", "/proc", "--dir", "/tmp", "--dir", "/dev", "--symlink", "/tmp", "/dev/shm"]
    for name, device in _DEVICES.items():
        words += ["--dev-bind", f"/dev/{device}", f"/dev/{name}"]
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        words += ["--symlink", f"/proc/self/fd{target}", f"/dev/{name}"]
    return words


def _within(path: str, root: str) -> bool:
    return os.path.commonpath((os.path.realpath(path), os.path.realpath(root))) == os.path.realpath(root)


def _landlock(plan: Plan, folders: str) -> Launch:
    if kernel.landlock_version() == 0:
        raise SandboxUnavailable("this kernel has no Landlock, or it is switched off")
    python = image.base_python()
    packages = f"{folders}/packages"
    os.mkdir(packages, 0o755)
    found = image.package_folders()
    for name, folder in found.items():
        os.symlink(folder, f"{packages}/{name}")
    shared_paths = ("/lib64", "/lib", "/usr/lib", "/usr/share/zoneinfo", *_SYSTEM_FILES, *_LANDLOCK_DEVICES)
    roots = (*shared_paths, f"{sys.base_prefix}/lib", *found.values(), packages)
    readable = (*_library_paths(), *found.values(), packages)
    settings = _settings(
        plan,
        import_paths=(packages,),
        first_user=first_user_of(plan.level, folders),
        readable=readable,
        roots=roots,
        folders=folders,
    )
    return Launch(settings=settings, python=python, wrapper=(), environment={"PYTHONHASHSEED": "0"})


def _library_paths() -> list[str]:
    """What Python reads of the system, without the folders of installed packages."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = f"{sys.base_prefix}/lib/{version}"
    hidden = {os.path.realpath(path) for path in image.hidden_folders()}
    entries = [entry.path for entry in os.scandir(library) if os.path.realpath(entry.path) not in hidden]
    machine = f"{kernel.MACHINE}-linux-gnu"
    shared = ["/lib64", f"/lib/{machine}", f"/usr/lib/{machine}", "/usr/share/zoneinfo", *_SYSTEM_FILES]
    libpython = glob.glob(f"{sys.base_prefix}/lib/libpython*")
    return [*shared, *libpython, *entries, *_LANDLOCK_DEVICES]
