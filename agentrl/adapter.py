"""Turns what a user wrote into an `Environment`: typed results, no blocking, named failures, forks."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np

from agentrl.aio import bounded_by, drive, finish
from agentrl.environment import Environment, ForkUnsupported, Observation, StepResult
from agentrl.errors import ConfigError, EnvironmentFault, InfrastructureError
from agentrl.left_behind import LEFT_BEHIND
from agentrl.message import Action
from agentrl.reward import as_number, is_correct
from agentrl.task import Task
from agentrl.threads import OwnThread
from agentrl.toolenv import ToolEnv, as_parts, tools_of
from agentrl.toolkit import ToolSpec

Make = Callable[[], Any]
CLOSE_SECONDS = 5.0


class Adapter:
    """An `Environment` over a `ToolEnv`, a plain `gymnasium.Env`, or one whose methods are `async def`.

    Blocking environments run in a thread of their own. `close` may come while `act` hangs: the
    environment's own
    `close` is called from another thread, what waits fails with `EnvironmentFault`, and a thread that does
    not end is left behind and counted in `LEFT_BEHIND`.
    """

    def __init__(self, env: Any, make: Make) -> None:
        self._env, self._make = env, make
        self._thread: OwnThread | None = None if runs_on_loop(env) else OwnThread(f"env-{type(env).__name__}")
        self._task: Task | None = None
        self._history: list[tuple[Action, StepResult]] = []
        self._first = Observation()
        self._closed = False
        self._tools: tuple[ToolSpec, ...] = tools_of(env)

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """The tools that the model may call."""
        return self._tools

    @property
    def system(self) -> str:
        """What the model is told before any task."""
        return str(getattr(self._env, "system", ""))

    @property
    def isolation(self) -> str:
        """How the code that it runs is isolated; '' where it runs none."""
        return str(getattr(self._env, "isolation", ""))

    @property
    def cpu_seconds(self) -> float:
        """Processor time of its latest call, which may be over by now; 0 where it runs on the loop."""
        return 0.0 if self._thread is None else self._thread.cpu_seconds

    @property
    def max_turns(self) -> int | None:
        """The environment's own limit on actions, where it names one."""
        value = getattr(self._env, "max_turns", None)
        return int(value) if value is not None else None

    async def start(self, task: Task) -> Observation:
        """Begin the task's episode.

        Raises:
            DeadlineError: Too many calls of environments hang already.
        """
        LEFT_BEHIND.refuse_more()
        self._task, self._history = task, []
        if isinstance(self._env, ToolEnv):
            self._first = await self._run(self._env.begin, task)
        else:
            options = {"split": task.split, "level": task.level, "payload": dict(task.payload)}
            shown = await self._run(lambda: self._env.reset(seed=task.seed, options=options))
            self._first = read_reset(shown)
        return self._first

    async def act(self, action: Action) -> StepResult:
        """Take one action."""
        if isinstance(self._env, ToolEnv):
            result: StepResult = await self._run(self._env.act, action)
        else:
            if self._history and self._history[-1][1].done:
                raise EnvironmentFault(f"{type(self._env).__name__}: step after the end: call reset first")
            given = action if self._tools else action.text
            result = read_step(await self._run(lambda: self._env.step(given)))
        self._history.append((action, result))
        return result

    async def fork(self) -> Environment:
        """Copy the running episode: natively where the environment can, else by replay.

        Raises:
            ForkUnsupported: It cannot be copied, and it is not declared deterministic or did not replay
            equally.
        """
        if self._task is None:
            raise ForkUnsupported("fork before start: there is no episode to copy")
        twin = Adapter(await self._copy(), self._make)
        if twin._env is None:
            return await self._replay()
        twin._task, twin._first, twin._history = self._task, self._first, list(self._history)
        return twin

    async def _copy(self) -> Any:
        native = getattr(self._env, "fork", None)
        if native is not None:
            twin = await self._copied(native)
            if twin is None:
                raise EnvironmentFault(f"{type(self._env).__name__}.fork() returned None: return the copy")
            return twin
        if isinstance(self._env, ToolEnv) and not self._env.is_async:
            try:
                return await self._copied(lambda: copy_state(self._env))
            except ForkUnsupported:
                if not self._env.deterministic:
                    raise
        return None

    async def _copied(self, copy_of: Callable[[], Any]) -> Any:
        """Call what makes a copy; one that comes when nobody waits for it any more is closed."""
        if self._thread is None:
            return await self._run(copy_of)
        made: list[Any] = []
        given_up = threading.Event()

        def make() -> Any:
            made.append(copy_of())
            if given_up.is_set():
                close_all(made)
            return made[0] if made else None

        try:
            return await self._run(make)
        except BaseException:
            given_up.set()
            if made:
                close_beside(made)
            raise

    async def _another(self) -> Any:
        try:
            return await self._copied(self._make)
        except EnvironmentFault as error:
            if isinstance(error.__cause__, ConfigError):
                raise error.__cause__ from None
            raise

    async def _replay(self) -> Environment:
        if not getattr(self._env, "deterministic", False):
            name = type(self._env).__name__
            raise ForkUnsupported(
                f"{name} has no fork() and is not declared `deterministic`: it cannot be copied"
            )
        assert self._task is not None
        twin = Adapter(await self._another(), self._make)
        try:
            compare(await twin.start(self._task), self._first, "the first observation")
            for turn, (action, result) in enumerate(self._history):
                compare(
                    (await twin.act(action)).observation,
                    result.observation,
                    f"the observation of turn {turn}",
                )
        except BaseException:
            await twin.close()
            raise
        return twin

    async def close(self) -> None:
        """Release everything, also while `act` hangs."""
        if self._closed:
            return
        self._closed = True
        close = getattr(self._env, "close", None)
        if self._thread is None:
            if close is not None:
                await self._within(ran(close))
            return
        try:
            if close is not None:
                await self._close_in(self._thread, close)
        finally:
            await self._thread.end(self._interrupted())

    async def _close_in(self, thread: OwnThread, close: Callable[[], Any]) -> None:
        """Call `close` in the environment's thread, or in a second one while that hangs."""
        if not thread.busy:
            await self._within(thread.run(closed, close))
            return
        helper = OwnThread("env-close")
        try:
            await self._within(helper.run(closed, close))
        finally:
            await helper.end(self._interrupted(), seconds=0.1)

    async def _within(self, closing: Awaitable[Any]) -> None:
        try:
            await bounded_by(closing, CLOSE_SECONDS)
        except TimeoutError as error:
            name = type(self._env).__name__
            raise EnvironmentFault(f"{name}.close() did not return within {CLOSE_SECONDS:g} s") from error
        except (InfrastructureError, asyncio.CancelledError):
            raise
        except (Exception, SystemExit) as error:
            name = type(self._env).__name__
            raise EnvironmentFault(f"{name}.close() raised {type(error).__name__}: {error}") from error

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call into the environment; whatever it raises by itself becomes an `EnvironmentFault`."""
        try:
            if self._thread is None:
                return await ran(function, *args)
            value = await self._thread.run(blocking, function, *args)
        except (InfrastructureError, asyncio.CancelledError):
            raise
        except (Exception, SystemExit) as error:
            name = type(self._env).__name__
            raise EnvironmentFault(f"{name} raised {type(error).__name__}: {error}") from error
        if self._closed:
            raise self._interrupted()
        return value

    def _interrupted(self) -> EnvironmentFault:
        return EnvironmentFault(f"{type(self._env).__name__} was closed while a step ran")


def runs_on_loop(env: Any) -> bool:
    """Whether the environment is asynchronous by itself, or declares that it never blocks."""
    if isinstance(env, ToolEnv):
        return env.is_async or not getattr(env, "blocking", True)
    return any(inspect.iscoroutinefunction(getattr(env, n, None)) for n in ("reset", "step"))


async def ran(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function that may be asynchronous."""
    value = function(*args)
    return await value if inspect.isawaitable(value) else value


def blocking(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a thread; the coroutines of a blocking `ToolEnv` never really wait."""
    value = function(*args)
    return drive(value) if inspect.iscoroutine(value) else value


def closed(close: Callable[[], Any]) -> None:
    """Call a `close` in a thread; one that is asynchronous may wait there, unlike the rest."""
    value = close()
    if inspect.iscoroutine(value):
        finish(value)


def copy_state(env: Any) -> Any:
    """Copy an environment and all that it holds, except what is shared by design.

    Raises:
        ForkUnsupported: Something in it cannot be copied; names the attribute.
    """
    memo: dict[int, Any] = {id(env.shared): env.shared} if env.shared is not None else {}
    try:
        return copy.deepcopy(env, dict(memo))
    except Exception as error:
        culprit = next((k for k, v in vars(env).items() if not can_copy(v, dict(memo))), "state")
        raise ForkUnsupported(
            f"{type(env).__name__}.{culprit} cannot be copied ({error}): write fork(), or set "
            "deterministic = True where equal actions give equal observations"
        ) from error


def close_beside(envs: list[Any]) -> None:
    """Close copies in a thread of their own; where no more can be started, here."""
    try:
        threading.Thread(target=close_all, args=(envs,), name="env-close", daemon=True).start()
    except RuntimeError:
        close_all(envs)


def close_all(envs: list[Any]) -> None:
    """Close copies that nobody wants; whoever takes one out of the list closes it, in whatever thread."""
    while envs:
        with contextlib.suppress(Exception):
            close = getattr(envs.pop(), "close", None)
            if close is not None:
                closed(close)


def can_copy(value: Any, memo: dict[int, Any]) -> bool:
    """Whether `copy.deepcopy` takes it."""
    try:
        copy.deepcopy(value, memo)
    except Exception:
        return False
    return True


def compare(new: Observation, old: Observation, what: str) -> None:
    """Refuse a replay that shows something else."""
    if new != old:
        raise ForkUnsupported(f"replay differs at {what}: {old.text[:80]!r} became {new.text[:80]!r}")


def read_reset(shown: Any) -> Observation:
    """Read what `reset` returned."""
    if not (isinstance(shown, tuple) and len(shown) == 2 and isinstance(shown[1], Mapping)):
        raise EnvironmentFault(f"reset returned {type(shown).__name__}: return (observation, info dict)")
    return Observation(parts=as_parts(shown[0]))


def read_step(shown: Any) -> StepResult:
    """Read the 5-tuple that `step` returned."""
    if not (isinstance(shown, tuple) and len(shown) == 5 and isinstance(shown[4], Mapping)):
        raise EnvironmentFault("step must return (observation, reward, terminated, truncated, info dict)")
    observation, reward, terminated, truncated, info = shown
    value = as_number(reward)
    terminated, truncated = is_true("terminated", terminated), is_true("truncated", truncated)
    return StepResult(
        observation=Observation(parts=as_parts(observation)),
        reward=value,
        terminated=terminated,
        truncated=truncated,
        correct=read_correct(info, value, terminated, truncated),
        reward_parts={str(k): as_number(v) for k, v in dict(info.get("reward_parts", {})).items()},
        calls=tuple(info.get("calls", ())),
    )


def is_true(name: str, value: Any) -> bool:
    """Read `terminated` or `truncated`.

    Raises:
        EnvironmentFault: It is no truth value.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise EnvironmentFault(f"step returned {name}={value!r}: it must be True or False")
    return bool(value)


def read_correct(info: Mapping[str, Any], reward: float, terminated: bool, truncated: bool) -> bool | None:
    """Read `info["correct"]`; an environment that says nothing is taken to mean reward >= 1 at the end."""
    if not (terminated or truncated):
        return None
    value = info.get("correct")
    if value is not None and not isinstance(value, (bool, np.bool_)):
        raise EnvironmentFault(f"step returned info['correct']={value!r}: it must be True, False or None")
    return is_correct(reward) if value is None else bool(value)
