# Everything runs in a virtual environment of its own; only Python 3.11+ and make are needed before.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
READY := $(VENV)/.ready

.PHONY: demo test slow lint format board docs clean
.DEFAULT_GOAL := test

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e ".[dev]"
	$(INSTALL) --no-deps torchattacks
	touch $(READY)

demo: $(READY)  ## train and attack two victims on embedded data
	$(BIN)/ecgbench run --model mlp --defense none --defense adaptive --attack "strict[budget=quick]"

test: lint  ## all that CI runs
	$(BIN)/python -m pytest -n 2 -m "not slow"
	$(BIN)/ecgbench board check

slow: $(READY)  ## trainings and whole studies, on real recordings where $$ECGBENCH_DATA is set
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=plugins $(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

board: $(READY)  ## the leaderboard from its records
	$(BIN)/ecgbench board build

docs: $(READY)  ## regenerate the pages that are made from code
	$(BIN)/python docs/make.py

clean:
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache
