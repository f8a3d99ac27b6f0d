"""One resolver for environment names: `code`, `agentrl/Code-v0`, `module:Class`, `file.py:Class`."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrl.errors import ConfigError, InfrastructureError, unknown
from agentrl.sources import digest_of, digest_of_folder
from agentrl.task import SPLITS, SeededTasks, Split, TaskSource

if TYPE_CHECKING:
    from agentrl.adapter import Adapter
    from agentrl.toolkit import ToolSpec

GROUP = "agentrl.environments"
FITTING = {int: (int,), bool: (bool,), float: (float, int), str: (str,)}
"""Types that a setting may have, by that of the constructor's default."""
NEEDED = ("reset", "step")
"""What every environment has, whatever its class."""
OF_CLASS = ("levels", "splits", "tasks", "open_shared")
"""What is read before anything is made: of the class, or of the function in its place."""
BY_FILE: set[str] = set()
"""Names of modules that were imported from a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvSpec:
    """An environment by name: how to make instances and what they share."""

    name: str
    kind: Any
    """The class, or a function that makes instances and has the attributes `OF_CLASS` that they need."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Any:
        """Make one raw instance, as its author wrote it.

        Raises:
            ConfigError: The constructor raised, or what it made is no environment.
        """
        try:
            env = self.kind(**self.settings)
        except (ConfigError, InfrastructureError):
            raise
        except Exception as error:
            raise ConfigError(f"{self.name} cannot be made: {type(error).__name__}: {error}") from error
        for method in NEEDED:
            if not callable(getattr(env, method, None)):
                raise ConfigError(f"{self.name} makes a {type(env).__name__}, which has no {method}()")
        if not inspect.isclass(self.kind):
            refuse_lost(self.name, self.kind, type(env))
        return env

    @property
    def code(self) -> str:
        """Tell versions of its code apart: a digest of its files, and the version of our own."""
        module = getattr(self.kind, "__module__", "")
        file = getattr(sys.modules.get(module), "__file__", None)
        if module == "__main__" and (spec := sys.modules[module].__spec__) is not None:
            module = spec.name  # of `python -m package.module`
        own = f"agentrl {version('agentrl')} " if module.startswith("agentrl.") else ""
        try:
            if file and own:
                return own + digest_of_folder(Path(file).parent)
            return digest_of(Path(file).resolve(), module) if file else ""
        except OSError:
            return ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Worker]:
        """Open what the instances of one worker share."""
        opener = getattr(self.kind, "open_shared", None)
        context = opener(**self.settings) if opener is not None else None
        if context is None:
            yield Worker(spec=self, shared=None)
            return
        async with context as shared:
            yield Worker(spec=self, shared=shared)

    def tasks(self, split: Split, *, level: int = 0, seed: int = 0) -> TaskSource:
        """Give the tasks of a split: by the environment's own `tasks(split, level, seed)`, else from seeds.

        Raises:
            ConfigError: The environment has no such split or level.
        """
        if split not in self.splits:
            raise ConfigError(f"{self.name}: {unknown('split', split, self.splits)}")
        self._refuse(level)
        own = getattr(self.kind, "tasks", None)
        if own is not None:
            source: TaskSource = own(split, level=level, seed=seed)
            return source
        return SeededTasks(split=split, level=level, seed=seed)

    def trait(self, name: str, default: Any = None) -> Any:
        """Give what the environment says of itself, also where a function makes it."""
        return getattr(self.kind if inspect.isclass(self.kind) else self.make(), name, default)

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels that it has."""
        return tuple(getattr(self.kind, "levels", (0,)))

    def level(self, chosen: int | None) -> int:
        """Give the level of the tasks: the one chosen, else the environment's setting, else its lowest.

        Raises:
            ConfigError: The choice and the setting differ, or there is no such level.
        """
        setting = self.settings.get("level")
        if None not in (chosen, setting) and chosen != setting:
            raise ConfigError(f"{self.name}: level {chosen} and env.level={setting} differ: give one of them")
        level = int(next(x for x in (chosen, setting, self.levels[0]) if x is not None))
        self._refuse(level)
        return level

    def _refuse(self, level: int) -> None:
        if level not in self.levels:
            raise ConfigError(f"{self.name}: level={level}: it has levels {', '.join(map(str, self.levels))}")

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that it has."""
        return tuple(getattr(self.kind, "splits", SPLITS[:2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Makes environments that share one set of resources."""

    spec: EnvSpec
    shared: Any

    def raw(self) -> Any:
        """Make a raw instance with the shared resources handed in."""
        env = self.spec.make()
        if self.shared is not None:
            env.shared = self.shared
        return env

    def new(self) -> Adapter:
        """Make an environment for one episode at a time."""
        from agentrl.adapter import Adapter

        return Adapter(self.raw(), self.raw)

    async def tools(self) -> tuple[ToolSpec, ...]:
        """Give the tools that a model may call."""
        from agentrl.rollout.closing import close_quietly

        env = self.new()
        try:
            return env.tools
        finally:
            await close_quietly(env)


def known_environments() -> dict[str, str]:
    """Give the installed environments: short name to `module:Class`."""
    return {e.name: e.value for e in entry_points(group=GROUP)}


def resolve_env(name: str, **settings: Any) -> EnvSpec:
    """Find an environment by any of its names.

    Raises:
        ConfigError: There is none of this name, or it does not take a setting; names the nearest.
    """
    known = known_environments()
    short = gym_name(name)
    if short != name and short in known and not name.endswith("-v0"):
        raise ConfigError(f"no environment {name!r}; did you mean {name.rpartition('-v')[0] + '-v0'!r}?")
    if short in known:
        kind = load(known[short])
    elif ":" in name:
        kind = load(name)
    else:
        if name.endswith(".py"):
            raise ConfigError(f"{name}: name the class too; {candidates(load_file(Path(name)), name)}")
        hint = (
            "; your own: module:Class or file.py:Class"
            if not difflib.get_close_matches(name, known, n=1)
            else ""
        )
        raise ConfigError(unknown("environment", name, known) + hint)
    check_kind(name, kind)
    check_settings(name, kind, settings)
    return EnvSpec(name=short if short in known else name, kind=kind, settings=settings)


def check_kind(name: str, kind: Any) -> None:
    """Refuse what cannot be an environment.

    Raises:
        ConfigError: It is neither a class with `reset` and `step` nor a function.
    """
    if not callable(kind):
        raise ConfigError(f"{name} is a {type(kind).__name__}: name a class, or a function that makes one")
    missing = [m for m in NEEDED if inspect.isclass(kind) and not callable(getattr(kind, m, None))]
    if missing:
        raise ConfigError(f"{name} is no environment: it has no {' and no '.join(missing)}")


def refuse_lost(name: str, function: Any, made: type) -> None:
    """Refuse a function that hides what the author of the class wrote.

    Raises:
        ConfigError: It does; names what.
    """
    authors = [vars(c) for c in made.__mro__ if c.__module__ != "agentrl.toolenv"]
    lost = [n for n in OF_CLASS if any(n in own for own in authors) and not hasattr(function, n)]
    if lost:
        short = name.rpartition(":")[2]
        raise ConfigError(
            f"{name} is a function: {', '.join(lost)} of {made.__name__} would be lost; name the class, "
            f"or write {short}.{lost[0]} = {made.__name__}.{lost[0]}"
        )


def candidates(module: Any, place: str) -> str:
    """Say which environments a module defines."""
    own = [v for v in vars(module).values() if inspect.isclass(v) and v.__module__ == module.__name__]
    names = [f"{place}:{k.__name__}" for k in own if all(hasattr(k, m) for m in NEEDED)]
    return f"did you mean {' or '.join(map(repr, names))}?" if names else "it defines no environment"


def gym_name(name: str) -> str:
    """Shorten a Gymnasium id of ours.

    >>> gym_name("agentrl/Code-v0"), gym_name("code")
    ('code', 'code')
    """
    if name.startswith("agentrl/"):
        return name.removeprefix("agentrl/").split("-v")[0].lower()
    return name


def load(reference: str) -> Any:
    """Import `module:Class` or `path/file.py:Class`."""
    place, _, attribute = reference.rpartition(":")
    module = load_file(Path(place)) if place.endswith(".py") else load_module(place)
    classes = [n for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__]
    if not hasattr(module, attribute):
        raise ConfigError(f"{place}: {unknown('class', attribute, classes)}")
    return getattr(module, attribute)


def by_file(module: Any) -> bool:
    """Whether a module was imported from its file, under a name that no other process knows."""
    return getattr(module, "__name__", None) in BY_FILE


def load_file(path: Path) -> Any:
    """Import a file under a name of its own, once; it can import what stands beside it."""
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.py")], n=1)
        raise ConfigError(f"no file {str(path)!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    resolved = path.resolve()
    name = f"{path.stem}_{hashlib.blake2b(str(resolved).encode(), digest_size=4).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    if str(resolved.parent) not in sys.path:
        sys.path.append(str(resolved.parent))  # last: it must hide nothing that is installed
    spec = importlib.util.spec_from_file_location(name, resolved)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    BY_FILE.add(name)
    loader = spec.loader

    def execute() -> Any:
        loader.exec_module(module)
        return module

    return run_import(execute, str(path), name)


def load_module(name: str) -> Any:
    """Import a module from the path or the current folder."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        here = [p.stem for p in Path.cwd().glob("*.py")]
        raise ConfigError(unknown("module", name, here))
    return run_import(lambda: importlib.import_module(name), name, name)


def run_import(action: Any, shown: str, module: str) -> Any:
    """Import user code; what it raises is named with the file."""
    try:
        return action()
    except ConfigError:
        raise
    except Exception as error:
        sys.modules.pop(module, None)
        raise ConfigError(f"{shown} cannot be imported: {type(error).__name__}: {error}") from error


def check_settings(name: str, kind: Any, settings: Mapping[str, Any]) -> None:
    """Refuse settings that the environment's constructor does not take."""
    parameters = parameters_of(kind)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for key in settings:
        if inspect.isclass(kind) and not parameters:
            how = "; the level is chosen with --level, or rollout.level in training" if key == "level" else ""
            raise ConfigError(f"{name}: no setting {key!r}: its class has no __init__ that takes any{how}")
        if key not in parameters:
            raise ConfigError(f"{name}: {unknown('setting', key, parameters)}")
        wanted, got = type(parameters[key].default), type(settings[key])
        if wanted in FITTING and got not in FITTING[wanted]:
            raise ConfigError(
                f"{name}: setting {key}={settings[key]!r} is {got.__name__}: it must be {wanted.__name__}"
            )


def parameters_of(kind: Any) -> Mapping[str, inspect.Parameter]:
    """Give what the constructor takes; the `__new__` of a `ToolEnv` takes anything, to remember it."""
    from agentrl.toolenv import ToolEnv

    if not (inspect.isclass(kind) and kind.__new__ is ToolEnv.__new__):
        return inspect.signature(kind).parameters
    if kind.__init__ is object.__init__:
        return {}
    own: Any = functools.partial(kind.__init__, None)  # without `self`
    return inspect.signature(own).parameters
