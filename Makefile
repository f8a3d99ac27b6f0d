# One command each; every one of them sets up what it needs first. Needs Linux and Python 3.11-3.13, nothing else.
BIN := .venv/bin
SET_UP := .ci/setup pyproject.toml .ci/constraints.txt
# One thread per process: small models run faster so, and two test processes use both cores.
export OMP_NUM_THREADS ?= 1
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope --durations 5

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long check lint format debian clean

help:  ## show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: .venv/.core  ## virtual environment with AgentRL and the tested versions

demo: .venv/.core  ## train a tool-using agent from scratch, in under a minute
	@$(BIN)/agentrl demo

test: debian lint  ## everything that check does, and all tests, each property sampled
	$(PYTEST) -m "not long"

test-long: debian lint  ## the same with full counts
	$(PYTEST) --hypothesis-profile long

check: lint  ## formatter, linter, strict types, doctests, layout, examples
	$(PYTEST) -m "not long" agentrl tests/test_layout.py tests/test_readme.py tests/test_examples.py

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/.dev  ## mend what the formatter and the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

debian:
	@.ci/debian

clean:  ## remove the virtual environment and caches; runs/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info

.venv/.core: $(SET_UP)
	@.ci/setup .

.venv/.dev: .venv/.core
	@.ci/setup ".[dev]"
	@touch $@
