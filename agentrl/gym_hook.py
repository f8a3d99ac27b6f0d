"""Makes `gymnasium.make("agentrl/…")` work after `import agentrl`, which itself does not import Gymnasium."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

ENVIRONMENTS = {"agentrl/Code-v0": "agentrl.envs.code.env:CodeEnv"}
"""Bundled environments by Gymnasium id; Gymnasium imports them when one is made."""


def register_when_loaded() -> None:
    """Register now where Gymnasium is loaded, else right after its first import."""
    module = sys.modules.get("gymnasium")
    if hasattr(module, "register") and module is not None:
        register(module)
    elif not any(isinstance(finder, AfterGymnasium) for finder in sys.meta_path):
        sys.meta_path.insert(0, AfterGymnasium())


def register(gymnasium: ModuleType) -> None:
    """Register all environments that are not registered yet."""
    for name, entry_point in ENVIRONMENTS.items():
        if name not in gymnasium.registry:
            gymnasium.register(id=name, entry_point=entry_point)


class AfterGymnasium:
    """Finds nothing itself: it lets the others find Gymnasium and adds a step to its loading, then goes away.

    An import that fails leaves it in place for the next one.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Give what the other finders give."""
        if name != "gymnasium":
            return None
        others = (f.find_spec(name, path, target) for f in list(sys.meta_path) if f is not self)
        spec = next(filter(None, others), None)
        if spec is not None and spec.loader is not None:
            self._add_step(spec)
        return spec

    def _add_step(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        assert loader is not None
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            register(module)

        vars(loader)["exec_module"] = exec_module  # of this loader object only; it loads one module
