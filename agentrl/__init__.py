"""AgentRL trains language-model agents that use tools over many turns with reinforcement learning.

`import agentrl` is light: a public name is imported when it is first used. `__init__.pyi` lists them, for
type checkers and for this file alike.
"""

from agentrl.gym_hook import register_when_loaded


def _public() -> dict[str, str]:
    """Give the module of every public name."""
    import re
    from pathlib import Path

    stub = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    pairs = re.findall(r"^from (\S+) import (\w+) as \w+$", stub, flags=re.MULTILINE)
    return {name: module for module, name in pairs}


def __getattr__(name: str) -> object:
    import importlib

    if name == "__all__":
        return list(_public())
    module = None if name.startswith("_") else _public().get(name)
    if module is None:
        raise AttributeError(f"module 'agentrl' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_public())


register_when_loaded()
