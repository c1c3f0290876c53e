# `make demo`, `make test`, `make lint`: each makes .venv and installs what it needs, once.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format install

demo: .venv/demo.installed
	$(BIN)/python run_worker.py demo

# The tests start hundreds of processes: compiled once, the package is not compiled for each of them.
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/dev.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: .venv/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: .venv/demo.installed

.venv/%.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@
