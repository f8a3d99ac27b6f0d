"""What a zygote is started from: a Python, the guest's source, the few packages that sandboxes may import."""

import contextlib
import glob
import json
import os
import sys
import tempfile
from dataclasses import asdict
from importlib import resources, util
from typing import IO

from agentrl.tools.sandbox.guest.confine import Settings

_GUEST = "agentrl.tools.sandbox.guest"
_MODULES = ("kernel", "seccomp", "landlock", "confine", "wire", "interpreter", "watch", "zygote")
_START = """
import json, sys, types
bundle = json.load(open(int(sys.argv[1]), encoding="utf-8"))
for name, source in bundle["modules"]:
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = []
    exec(compile(source, f"<{name}>", "exec"), vars(module))
module.main(int(sys.argv[2]), int(sys.argv[3]), bundle["settings"])
"""


def base_python() -> str:
    """The interpreter that the running one's virtual environment was made from."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def command(python: str, descriptors: tuple[int, int, int], *, bare: bool) -> list[str]:
    """Start a zygote on its bundle, its control socket and a pidfd of the host.

    The working folder is not on its path; `bare`: neither are installed packages.
    """
    flags = ["-S", "-s", "-P", "-B"] if bare else ["-P", "-B"]
    return [python, *flags, "-c", _START, *map(str, descriptors)]


def write_bundle(settings: Settings) -> IO[bytes]:
    """A file without a name that holds the guest's source and settings, ready to be inherited."""
    modules = [(name, "") for name in ("agentrl", "agentrl.tools", "agentrl.tools.sandbox", _GUEST)]
    folder = resources.files(_GUEST)
    modules += [(f"{_GUEST}.{name}", (folder / f"{name}.py").read_text("utf-8")) for name in _MODULES]
    with contextlib.ExitStack() as held:
        file = held.enter_context(tempfile.TemporaryFile())
        file.write(json.dumps({"modules": modules, "settings": asdict(settings)}).encode())
        file.flush()
        file.seek(0)
        held.pop_all()
    return file


def package_folders(names: tuple[str, ...] = ("numpy",)) -> dict[str, str]:
    """Folder by name, of the installed packages that sandboxes may import and of their bundled libraries."""
    found: dict[str, str] = {}
    for name in names:
        spec = util.find_spec(name)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            found[name] = os.path.realpath(place)
            if os.path.isdir(f"{found[name]}.libs"):
                found[f"{name}.libs"] = f"{found[name]}.libs"
    return found


def hidden_folders() -> list[str]:
    """Folders with installed packages, the virtual environment and this framework; none lies in another."""
    found = {os.path.dirname(os.path.realpath(str(resources.files("agentrl.tools"))))}
    for root in {sys.base_prefix, "/usr", "/usr/local"}:
        for kind in ("site-packages", "dist-packages"):
            found.update(map(os.path.realpath, glob.glob(f"{root}/lib*/python3*/{kind}")))
    if sys.prefix != sys.base_prefix:
        found.add(os.path.realpath(sys.prefix))
    return sorted(path for path in found if not any(path.startswith(f"{other}/") for other in found))
