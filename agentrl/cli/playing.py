"""Lets a person act in an environment, line by line; reached from `agentrl play` only."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator

from agentrl.adapter import Adapter
from agentrl.aio import run as wait
from agentrl.cli.envs import signature
from agentrl.cli.typing_in import read_line
from agentrl.environment import Observation, StepResult
from agentrl.errors import ConfigError
from agentrl.message import Action
from agentrl.registry import EnvSpec
from agentrl.task import Task
from agentrl.terminal import harmless

HELP = """type  tool name=value …    a tool call; `tool VALUE` where it takes one value
      {"name": …, "arguments": {…}}    the same as JSON
      anything else        your final answer (`answer …` where it could be taken for a call)
      ?                    this list        Ctrl-D    leave"""


def choose(spec: EnvSpec, options: argparse.Namespace) -> Task:
    """Find the task that was asked for.

    Raises:
        ConfigError: There is no such task or level.
    """
    level = spec.level(options.level)
    source = spec.tasks(options.split, level=level, seed=options.seed)
    if options.task >= len(source):
        raise ConfigError(f"--task {options.task}: {spec.name} has tasks 0..{len(source) - 1} here")
    return source.at(options.task)


@contextlib.contextmanager
def opened(spec: EnvSpec) -> Iterator[Adapter]:
    """Open an environment on the library's loop, so that the person's typing blocks nothing."""
    shared = spec.open()
    worker = wait(shared.__aenter__())
    try:
        env = worker.new()
        try:
            yield env
        finally:
            wait(env.close())
    finally:
        wait(shared.__aexit__(None, None, None))


def lines() -> Iterator[str]:
    """Give what is typed, or piped in, until it ends."""
    terminal = sys.stdin.isatty()
    if terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (line editing and history)
    while True:
        try:
            line = input("> " if terminal else "")
        except EOFError:
            return
        if not terminal:
            print(f"> {line}")
        if line.strip():
            yield line


def show_tools(env: Adapter) -> None:
    """Print the tools with their signatures."""
    for spec in env.tools:
        print(f"  {signature(spec.name, spec.parameters)}  {spec.description.partition(chr(10))[0]}")


def ask(env: Adapter) -> Iterator[Action]:
    """Give each action that was typed; what cannot be read is explained and asked again."""
    for line in lines():
        if line.strip() == "?":
            print(HELP)
            show_tools(env)
            continue
        try:
            yield read_line(line, env.tools)
        except ConfigError as error:
            print(harmless(f"  {error}"))


def episode(env: Adapter, task: Task) -> dict[str, object]:
    """Play one episode and say how it ended."""
    print(harmless(wait(env.start(task)).text))
    if env.tools:
        print("tools (? for help):")
        show_tools(env)
    reward, turns, last = 0.0, 0, StepResult(observation=Observation())
    for action in ask(env):
        last = wait(env.act(action))
        reward, turns = reward + last.reward, turns + 1
        if last.observation.text:
            print(harmless(last.observation.text))
        if last.done:
            break
    finish = "terminated" if last.terminated else "truncated" if last.truncated else "left"
    verdict = {True: "correct", False: "not correct", None: "no verdict"}[last.correct]
    print(f"{finish}: {verdict}, reward {reward:g}, {turns} turn{'s' * (turns != 1)}")
    return {"task": task.id, "finish": finish, "correct": last.correct, "reward": reward, "turns": turns}
