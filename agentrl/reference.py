"""Names under which another process finds a class."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from agentrl.errors import ConfigError
from agentrl.registry import by_file
from agentrl.sources import INSTALLED


def importable_name(kind: type) -> str:
    """Name a class for any folder: `module:Class` where that imports it, else `/path/file.py:Class`.

    Raises:
        ConfigError: It is defined inside another object, or in no file.
    """
    if "." in kind.__qualname__:
        raise ConfigError(
            f"{kind.__qualname__} is defined inside another object: move it to the top of a file"
        )
    module = sys.modules.get(kind.__module__)
    with contextlib.suppress(ImportError, ValueError):
        found = importlib.util.find_spec(kind.__module__) if kind.__module__ != "__main__" else None
        if found is not None and module is not None and found.origin == getattr(module, "__file__", None):
            return f"{kind.__module__}:{kind.__qualname__}"
    source = inspect.getsourcefile(kind)
    if source is None:
        raise ConfigError(f"{kind.__qualname__} has no source file: write it into one")
    return f"{Path(source).resolve()}:{kind.__qualname__}"


def lasting_name(kind: Any, otherwise: str) -> str:
    """Name a class the same however it was found: imported, by its file, or in the script that runs.

    Gives `package.module:Class` where it was imported from a package, else `file.py:Class` as seen from the
    current folder, and `otherwise` where neither finds it, as what a notebook defines.
    """
    module = sys.modules.get(getattr(kind, "__module__", ""))
    name, file = getattr(kind, "__qualname__", ""), getattr(module, "__file__", None)
    if file is None or getattr(module, name, None) is not kind:
        return otherwise
    spec = getattr(module, "__spec__", None)  # of a script none, but of `python -m` the module's own name
    dotted, path = spec.name if spec is not None and not by_file(module) else "", Path(file).resolve()
    if "." in dotted or (dotted and (hasattr(module, "__path__") or INSTALLED & {*path.parts})):
        return f"{dotted}:{name}"
    here = Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{name}"
