# `make demo` and `make test` each do all set-up on a fresh clone: Python 3.11 or later, make, git, nothing else.
# The environment is .venv; it is made or updated only when it is missing or pyproject.toml has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PYTEST_ARGS ?=
DEMO_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help env demo test test-slow lint types format wheel wheel-test clean

help:  ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
	  f"{sys.executable} is Python {sys.version.split()[0]}, needed is 3.11 or later: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

# three stamps: what it takes to use the package, to train with it, and to work on it
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-train: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[train]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/.installed $(VENV)/.installed-train $@

env: $(VENV)/.installed-dev  ## The environment to work in, .venv

demo: $(VENV)/.installed-train  ## The whole road over a small synthetic world, and a small model trained on it
	$(BIN)/valor-data demo $(DEMO_ARGS)

test: $(VENV)/.installed-dev  ## The default checks, some minutes
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev  ## What takes long or needs much memory, disk or the network
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev  ## mypy, strict
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## Let ruff put right what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.installed-dev  ## dist/*.whl
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

wheel-test: $(VENV)/.installed-dev  ## The wheel in an empty environment (5 GB on disk, needs an index)
	$(BIN)/python -m pytest tests/test_wheel.py $(PYTEST_ARGS)

clean:  ## Everything made here but the environment and work folders
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find valor_data tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
