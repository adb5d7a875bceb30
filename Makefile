# `make train` and `make test` set up .venv and run; PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test clean

train: .venv/core
	$(BIN)/python scripts/train.py $(ARGS)

test: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy & types=$$!; $(BIN)/pytest -n 2 --dist loadfile $(ARGS) && wait $$types

.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

.venv/dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch .venv/core $@

clean:
	rm -rf .venv
