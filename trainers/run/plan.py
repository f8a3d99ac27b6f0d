"""What a training run will do, resolved before anything is made."""

from __future__ import annotations

import dataclasses
import hashlib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from agentrl.checkpoint import Manner
from agentrl.dialect import check_dialect
from agentrl.engine.loading import model_folder
from agentrl.errors import ConfigError, unknown
from agentrl.reference import lasting_name
from agentrl.registry import EnvSpec, check_settings, known_environments, resolve_env
from agentrl.store.database import check_url
from agentrl.trainers.checkpoints import CheckpointSettings
from agentrl.trainers.configure import read_value, with_settings
from agentrl.trainers.passes.settings import UpdateSettings
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.run.strategies import StrategyPlan, find_strategy
from agentrl.trainers.tiny.warm_start import WarmStartSettings

TINY = "tiny"
PARTS = ("env", "rollout", "strategy", "eval", "tiny", "warm", "update", "checkpoint", "store", "algorithm")
"""What a setting's name may begin with; without one it is the algorithm's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSettings:
    """How a run measures itself."""

    tasks: int = 256
    """Held-out tasks, or all there are, the same before and after: each once sampled and once greedily."""

    def __post_init__(self) -> None:
        if self.tasks < 1:
            raise ConfigError(f"eval.tasks={self.tasks}: need 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSettings:
    """How episodes are played; None takes what the environment or the warm start says."""

    level: int | None = None
    max_turns: int | None = None
    max_tokens_per_turn: int | None = None
    """None for a checkpoint: 128."""
    max_context: int | None = None
    turn_seconds: float = 60.0
    episode_seconds: float = 600.0
    max_episodes: int = 512
    dialect: str = ""
    """How a checkpoint's conversations are written: `hermes`, `llama3`, `tags`, or `published:NAME` by a
    renderer's name; '' is as when it was trained, else by the control tokens of its tokenizer."""
    strategy: str = "independent"
    """How the attempts of a group are made in training: `independent` or `tree`; settings as strategy.x."""
    retries: int = 1
    """How often an episode whose infrastructure failed is attempted again, under the same seed."""

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ConfigError(f"rollout.retries={self.retries}: need 0 or more")
        check_dialect(self.dialect or "auto")

    def manner(self, base: Manner) -> Manner:
        """Put what is set in the place of what the model came with."""
        names = ("max_turns", "max_tokens_per_turn", "max_context", "turn_seconds", "episode_seconds")
        limits = replace(base.limits, **{n: v for n in names if (v := getattr(self, n)) is not None})
        return replace(base, limits=limits, dialect=self.dialect or base.dialect)


@dataclass(frozen=True, slots=True, kw_only=True)
class TinySettings:
    """The size of a model made on the spot."""

    layers: int = 2
    width: int = 128
    """A multiple of 64, the width of a head."""
    feed_forward: int = 256

    def __post_init__(self) -> None:
        for name in ("layers", "width", "feed_forward"):
            if getattr(self, name) < 1:
                raise ConfigError(f"tiny.{name}={getattr(self, name)}: need 1 or more")
        if self.width % 64:
            raise ConfigError(f"tiny.width={self.width}: need a multiple of 64, the width of a head")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where a run's rows go."""

    url: str = ""
    """Of a PostgreSQL database that several runs may share; '' is `run.db` in the run's folder."""

    def __post_init__(self) -> None:
        check_url(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A resolved run."""

    spec: EnvSpec
    model: str
    recipe: Recipe
    level: int
    seed: int
    rollout: RolloutSettings
    strategy: StrategyPlan
    evaluation: EvalSettings
    tiny_settings: TinySettings
    warm: WarmStartSettings = field(default_factory=WarmStartSettings)
    update: UpdateSettings = field(default_factory=UpdateSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    store: StoreSettings = field(default_factory=StoreSettings)

    @property
    def tiny(self) -> bool:
        """Whether the model is made on the spot."""
        return self.model == TINY

    def config(self) -> dict[str, Any]:
        """Give what reproduces the run, as JSON data."""
        return {
            "env": self.spec.name,
            "env_settings": dict(self.spec.settings),
            "env_code": self.spec.code,
            "model": self.model,
            **({} if self.tiny else {"model_files": model_files(model_folder(self.model))}),
            "algorithm": self.recipe.name,
            "algorithm_settings": dict(self.recipe.settings),
            "level": self.level,
            "seed": self.seed,
            "rollout": dataclasses.asdict(self.rollout),
            "strategy": dict(self.strategy.settings),
            "eval": dataclasses.asdict(self.evaluation),
            "update": dataclasses.asdict(self.update),
            "checkpoint": dataclasses.asdict(self.checkpoint),
            "store": dataclasses.asdict(self.store),
            **(self._tiny_config() if self.tiny else {}),
        }

    def _tiny_config(self) -> dict[str, Any]:
        return {"tiny": dataclasses.asdict(self.tiny_settings), "warm": dataclasses.asdict(self.warm)}


def make_plan(
    env: str | type,
    *,
    model: str = TINY,
    algorithm: str | Callable[..., Recipe] = "grpo",
    steps: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """Resolve names and settings.

    Args:
        env: Any name that `agentrl.registry.resolve_env` knows, or the class itself.
        model: "tiny" or a checkpoint folder.
        algorithm: An installed algorithm's name, or a function that returns a recipe.
        steps: In place of the algorithm's own.
        seed: Every random choice follows from it.
        settings: "env.x", "rollout.x", "strategy.x", "eval.x", "tiny.x", "warm.x", "update.x",
            "checkpoint.x" and "store.x" go to those parts, other names to the algorithm.

    Raises:
        ConfigError: Something does not exist; names the nearest.
    """
    make = algorithm if callable(algorithm) else find_algorithm(algorithm)
    parts = split_settings(settings or {}, name=make.__name__)
    if steps is not None:
        parts["algorithm"]["steps"] = steps
    spec = find_env(env, parts["env"])
    rollout = read_part(RolloutSettings, "rollout", parts["rollout"])
    level = spec.level(rollout.level)
    check_model(model)
    if model == TINY and rollout.dialect:
        raise ConfigError(
            "rollout.dialect: without use here; a tiny model has its own, it needs a checkpoint"
        )
    for part in ("tiny", "warm"):
        if model != TINY and parts[part]:
            raise ConfigError(f"{part}.{next(iter(parts[part]))}: without use here; it needs --model tiny")
    recipe = with_settings(make, parts["algorithm"])
    return Plan(
        spec=spec,
        model=model,
        recipe=recipe,
        level=level,
        seed=seed,
        rollout=rollout,
        strategy=find_strategy(rollout.strategy, parts["strategy"], group_size=recipe.group_size),
        evaluation=read_part(EvalSettings, "eval", parts["eval"]),
        tiny_settings=read_part(TinySettings, "tiny", parts["tiny"]),
        warm=read_part(WarmStartSettings, "warm", parts["warm"]),
        update=read_part(UpdateSettings, "update", parts["update"]),
        checkpoint=read_part(CheckpointSettings, "checkpoint", parts["checkpoint"]),
        store=read_part(StoreSettings, "store", parts["store"]),
    )


def check_model(model: str) -> None:
    """Refuse a model that is neither made on the spot nor on this machine.

    Raises:
        ConfigError: It is not; names the nearest, or how to fetch it.
    """
    if not model:
        raise ConfigError("--model is empty: give 'tiny' or a checkpoint folder")
    if model == TINY or Path(model).exists():
        return
    parent = Path(model).parent
    if model.count("/") == 1 and not parent.is_dir():
        model_folder(model)
        return
    near = sorted(p.name for p in parent.glob("*")) if parent.is_dir() else []
    raise ConfigError(f"{unknown('model', model, [TINY, *near])}; give 'tiny' or a checkpoint folder")


def model_files(folder: Path) -> dict[str, str]:
    """Tell versions of a checkpoint apart: its settings by digest, its weights by size and time of change."""
    found = {}
    for file in sorted(folder.glob("*")):
        if file.name == "config.json":
            found[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        elif file.suffix == ".safetensors":
            found[file.name] = f"{file.stat().st_size} {file.stat().st_mtime_ns}"
    return found


def find_env(env: str | type, settings: Mapping[str, Any]) -> EnvSpec:
    """Find an environment by name, or take its class; a script and the command line give it one name."""
    if isinstance(env, str):
        spec = resolve_env(env, **settings)
        is_lasting = spec.name in known_environments() or env.startswith("/")
        return spec if is_lasting else replace(spec, name=lasting_name(spec.kind, spec.name))
    name = lasting_name(env, f"{env.__module__}:{env.__qualname__}")
    check_settings(name, env, settings)
    return EnvSpec(name=name, kind=env, settings=settings)


def find_algorithm(name: str) -> Callable[..., Recipe]:
    """Find an installed algorithm."""
    known = {e.name: e for e in entry_points(group="agentrl.algorithms")}
    if name not in known:
        raise ConfigError(unknown("algorithm", name, known))
    found: Callable[..., Recipe] = known[name].load()
    return found


def split_settings(settings: Mapping[str, Any], *, name: str) -> dict[str, dict[str, Any]]:
    """Sort settings by the part before the dot.

    >>> split_settings({"clip_low": 0.1, "env.high": 5}, name="grpo")["algorithm"]
    {'clip_low': 0.1}
    """
    parts: dict[str, dict[str, Any]] = {p: {} for p in PARTS}
    for key, value in settings.items():
        part, dot, field = key.rpartition(".")
        part = "algorithm" if not dot or part == name else part
        if part not in parts:
            raise ConfigError(f"{key}: {unknown('part', part, [*parts, name])}")
        parts[part][field] = value
    return parts


def read_part(kind: Any, part: str, values: Mapping[str, Any]) -> Any:
    """Make a part's settings, with values checked against its types."""
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise ConfigError(f"{part}.{key}: {unknown('setting', key, hints)}")
    return kind(**{k: read_value(f"{part}.{k}", v, hints[k]) for k, v in values.items()})
