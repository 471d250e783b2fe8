# `make quickstart` and `make test` need Python >= 3.10 and a package registry, nothing else: each makes .venv and installs what it needs.
PYTHON ?= python3
VENV ?= .venv
TEST_PROCESSES ?= 2
BIN := $(VENV)/bin
# The pins have no versions for Python 3.10; there the bounds of setup.cfg decide.
PINS = $(shell $(BIN)/python -c 'import sys; print("-c constraints.txt" if sys.version_info >= (3, 11) else "")')
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINS)

# Tests that send a signal to their own process come before those that share it with many others (pytest-xdist would lose a worker).
ALONE = tests/nas/cli/test_border.py tests/nas/training/test_training.py tests/nas/training/test_progress_saved.py

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint constraints clean

help:
	@echo 'make quickstart   the whole search on a small data set, minutes on two CPU cores; results in runs/quickstart'
	@echo 'make test         ruff, mypy, the layer check and all tests'
	@echo 'make lint         ruff and mypy only'
	@echo 'make constraints  look up the newest versions and write them to constraints.txt'
	@echo 'make clean        remove caches and builds (runs/ and $(VENV) stay)'

quickstart: $(VENV)/.installed
	$(BIN)/nas quickstart --out runs/quickstart

# tests/test_layers.py, the layer check, goes first: it takes a second and says what the rest would only hint at.
# Two processes share the files out. Tests that time something take turns (latency_db.core.cpu.exclusive locks the CPU), but others run beside them, so none of them
# asserts more than an order of two figures, and that in one of several tries. `make test TEST_PROCESSES=0` runs all in one.
test: lint
	$(BIN)/python -m pytest -q tests/test_layers.py $(ALONE)
	OMP_NUM_THREADS=$(if $(filter 0,$(TEST_PROCESSES)),2,1) $(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile --durations=10 $(ALONE:%=--ignore=%)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[test]'
	@touch $@ $(VENV)/.installed

constraints:
	$(PYTHON) -m venv --clear .venv-constraints
	.venv-constraints/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test,tensorboard,wandb]'
	{ grep '^#' constraints.txt; .venv-constraints/bin/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/+[a-z0-9.]*$$//' | sort -f; } > constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-constraints

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find search_spaces latency_db nas benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +
