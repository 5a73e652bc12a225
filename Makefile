# The commands of this repository. Each makes what it needs first: a virtual environment in .venv, which is made again
# only when pyproject.toml changes.
#
#     make demo     a round on the notes example, about half a minute
#     make test     every check and every test; as root it installs the Debian packages that tests need
#     make searches long searches and rounds: known programs, and every example
#     make check    what a machine can see without running anything: style, types, arrows between the layers
#     make known    measure what known programs lose, and write the table of the documentation
#     make undone   every fault with every misfortune at every step, and the table of what is undone: an hour
#     make bench    the benchmarks, as a table
#     make docs     write the generated pages of docs/reference again
#     make clean    remove what these commands made; stored runs stay
#
# PYTHON=/path/to/python3 names the Python (3.11 or later) that .venv is made from.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install
SOURCES := src tests tools examples $(wildcard benchmarks)

# Branches of croupier.model that its own tests must reach, in per cent: every rule of a round lives there. Measured by
# these tests alone, since measuring makes all others three times as slow.
COVERAGE_FLOOR := 94

COVERAGE := --cov --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE_FLOOR)

# Tests wait more than they compute, so several run at once: make test WORKERS=0 runs them one after the other.
WORKERS := 4
SIDE_BY_SIDE := -n $(WORKERS) --dist loadgroup

# Words for pytest: make test ARGS="-k plan". A part of the tests is not asked to cover the whole.
ARGS :=

# Without compiled files each of the many commands that tests run would compile the whole package again.
unexport PYTHONDONTWRITEBYTECODE
COMPILED := $(BIN)/python -m compileall -q src

.PHONY: demo test searches known undone check bench docs clean packages
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.for-demo
	$(BIN)/croupier run examples/notes/experiment.yaml --seed 42

test: packages $(VENV)/.for-tests
	$(COMPILED)
	$(MAKE) --no-print-directory check
ifeq ($(ARGS),)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(COVERAGE) tests/model
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not searches" --ignore=tests/model
else
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)
endif

# What the search says of programs whose weak moments are known, and every example: minutes that not every run needs.
searches: packages $(VENV)/.for-tests
	$(COMPILED)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m searches

# Measure what known programs lose, and write the table of docs/reference/search.md.
known: packages $(VENV)/.for-tests
	$(BIN)/python tests/quality/table.py --write

# Kill, stop and starve of disk croupier, its guardian and the target wherever a fault is on its way, and write the table
# of docs/reference/undone.md.
undone: packages $(VENV)/.for-tests
	$(BIN)/python tests/quality/undone.py --write

check: $(VENV)/.for-tests
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/ruff format --quiet --check $(SOURCES)
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports

bench: $(VENV)/.for-tests
	$(BIN)/python benchmarks/run.py

docs: $(VENV)/.for-demo
	$(BIN)/python tools/make_docs.py

clean:
	rm -rf $(VENV) build dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./runs -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

packages:
	@sh tools/install-debian-packages.sh

# An environment whose Python is gone (the link dangles) counts as none.
$(BIN)/python:
	@sh tools/make-venv.sh $(VENV)

$(VENV)/.for-demo: pyproject.toml | $(BIN)/python
	@echo "installing croupier and what its examples need"
	@$(PIP) --editable '.[examples]'
	@touch $@

$(VENV)/.for-tests: pyproject.toml | $(BIN)/python
	@echo "installing croupier and what its tests need"
	@$(PIP) --editable '.[dev]'
	@touch $(VENV)/.for-demo $@
