# Everything runs in a virtual environment of its own; only Python 3.11+ and make are needed before.
PYTHON ?= python3
VENV ?= .venv
SITE ?= site
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
READY := $(VENV)/.ready

.PHONY: demo test browser-test slow lint format board site docs docs-site clean
.DEFAULT_GOAL := test

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e ".[dev]"
	$(INSTALL) --no-deps torchattacks
	touch $(READY)

demo: $(READY)  ## train and attack two victims on embedded data
	$(BIN)/ecgbench run --model mlp --defense none --defense adaptive --attack "strict[budget=quick]"

test: lint  ## all that CI runs
	$(BIN)/python -m pytest -n 2 -m "not slow and not browser"
	$(BIN)/ecgbench board check
	$(BIN)/ecgbench submit remeasure

browser-test: $(READY)  ## the web site in a headless chromium, skipped where there is none
	$(INSTALL) -e ".[browser]"
	$(BIN)/python -m pytest -m browser -s

slow: $(READY)  ## trainings and whole studies, on real recordings where $$ECGBENCH_DATA is set
	$(BIN)/python -m pytest -m "slow and not browser"

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

site: $(READY)  ## the leaderboard as a web site
	$(BIN)/ecgbench board site $(SITE)

docs: $(READY)  ## regenerate the pages that are made from code
	$(BIN)/python docs/make.py

docs-site: $(READY)  ## pages and docstrings as a site, build/site/docs/site/index.html
	$(INSTALL) -e ".[docs]"
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs/site -b html . build/site

clean:
	rm -rf $(VENV) site dist build .mypy_cache .pytest_cache .ruff_cache
