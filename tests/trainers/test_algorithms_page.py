"""The page on algorithms says what is so."""

import inspect
import math
import re
import runpy
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from agentrl.trainers.batch import make_batch
from agentrl.trainers.common import DEFAULTS, Common
from agentrl.trainers.configure import keywords, with_settings
from agentrl.trainers.parts import StepContext
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.run.plan import find_algorithm
from agentrl.trainers.standard import FixedBounds, LeaveOneOut
from tests.trainers.losses.toy import T0_ONE, T0_ROWS, batch_of, toy_of

PAGE = Path(__file__).parents[2] / "docs" / "algorithms.md"
TEXT = PAGE.read_text()
NAMES = {e.name for e in entry_points(group="agentrl.algorithms")}


def rows() -> dict[str, list[str]]:
    """Give the cells of the table of algorithms by name."""
    lines = re.findall(r"^\| \[`(\w+)`\]\((\S+)\) \| (.*) \|$", TEXT, flags=re.MULTILINE)
    return {name: [link, *cells.split(" | ")] for name, link, cells in lines}


def test_the_table_has_every_algorithm() -> None:
    assert rows().keys() == NAMES


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert len(links) > 10 and not [link for link in links if not (PAGE.parent / link).exists()]


def test_bounds_and_divergences_are_those_of_the_recipes() -> None:
    for name, cells in rows().items():
        recipe: Recipe = with_settings(find_algorithm(name), {"kl": 0.1})
        if isinstance(recipe.bounds, FixedBounds) and name != "cispo":
            low, high = cells[2].rpartition(", ")[2].split(" / ")
            assert recipe.bounds == FixedBounds(low=float(low), high=float(high)), name
        estimator, _, place = cells[5].partition(" in the ")
        if place == "loss":
            (part,) = recipe.regularisers
            assert getattr(part, "estimator") == estimator, name  # noqa: B009
        else:
            assert recipe.regularisers == () and recipe.forward_spec().before == {"old", "reference"}, name


def test_settings_that_all_have_are_listed() -> None:
    table = TEXT.partition("## Settings that all of them have")[2].partition("## ")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= set(DEFAULTS)
    assert set(DEFAULTS) == set(Common.__annotations__)
    for name in NAMES:
        assert set(DEFAULTS) <= set(keywords(find_algorithm(name)))


def test_settings_that_are_named_exist() -> None:
    known = set().union(*(keywords(find_algorithm(name)) for name in NAMES))
    for name, value in re.findall(r"`(\w+)=(\w+)`", TEXT):
        assert name in known | {"algorithm"}, (name, value)


def test_the_code_runs() -> None:
    found = re.search(r"<!-- code -->\n```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert found is not None
    space: dict[str, Any] = {}
    exec(compile(found[1], str(PAGE), "exec"), space)
    recipe = with_settings(space["dapo_without_units"], {"clip_high": "0.3"})
    assert recipe.advantage == LeaveOneOut() and recipe.bounds == FixedBounds(low=0.2, high=0.3)
    assert recipe.max_generations == 10 and recipe.regularisers


def test_the_example_weighs_attempts_by_their_length() -> None:
    """Lengths 2, 3, 1, 2 and one success: a baseline of 2 / 8."""
    example = runpy.run_path(str(PAGE.parents[1] / "examples" / "custom_advantage.py"))
    advantage_N = example["length_weighted"](batch_of(T0_ONE), StepContext())
    assert advantage_N.tolist() == pytest.approx([0.75] * 2 + [-0.25] * 6)
    flat_N = example["length_weighted"](batch_of(toy_of(T0_ROWS, [0.7] * 4)), StepContext())
    assert flat_N.tolist() == [0.0] * len(flat_N)
    assert not len(example["length_weighted"](make_batch([]), StepContext()))
    assert example["opo"](steps=3).name == "opo"


@pytest.mark.parametrize("name", sorted(NAMES - {"reinforce_pp_baseline"}))  # it has no page of its own
def test_settings_of_the_papers_are_whole(name: str) -> None:
    algorithm = find_algorithm(name)
    text = inspect.getdoc(sys.modules[algorithm.__module__]) or ""
    paper = re.search(r"^The paper: .*?(?=\n\n)", text, flags=re.MULTILINE | re.DOTALL)
    assert paper, "a page says how its paper trained"
    settings: dict[str, Any] = {}
    for line in re.findall(r"`([^`]*=[^`]*)`", paper[0]):
        settings |= eval(f"dict({line})", {"inf": math.inf})
    assert with_settings(algorithm, settings)
    assert "learning_rate" not in settings or {"warmup_steps", "final_rate"} <= settings.keys()
