# Two commands on a fresh machine with Python 3.11: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONWARNINGS := ignore::SyntaxWarning
export DO_NOT_TRACK := 1

.PHONY: help demo test check bench lock docs clean

help: ## Say what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

demo: $(VENV)/.installed ## Ingest the sample traces, build, print the metrics table
	$(BIN)/tracelake demo -o .demo

test: check ## All tests, linters included
	$(BIN)/pytest -q -n 2 --dist loadfile

check: $(VENV)/.dev ## Linters: ruff, mypy, import-linter, sqlfluff
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint --disable-progress-bar dbt_project/models dbt_project/analyses dbt_project/tests
	$(BIN)/sqlfluff lint --disable-progress-bar --config dbt_project/.sqlfluff ingest/quality/sql

bench: $(VENV)/.dev ## Speed and memory, against the figures in benchmarks/README.md
	$(BIN)/python benchmarks/bench.py

docs: $(VENV)/.installed ## Write the generated files: dbt source, docs/tables.md, docs/rules.md
	$(BIN)/python -m ingest.dbt_sources
	$(BIN)/python -m ingest.quality.rules_md

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tracelake needs Python 3.11 or newer; name one with PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml requirements/run.lock
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/run.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed requirements/dev.lock
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

clean: ## Delete the environment and everything made
	rm -rf $(VENV) .demo .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
