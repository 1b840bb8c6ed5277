# Two commands for a newcomer: `make demo` and `make test`. Everything happens in .venv, which is made when it
# is missing and left as it is otherwise. PYTHON=... chooses another Python (3.11 or newer) to make it with.

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input

.PHONY: demo test oldest slow bench rivals lint docs help

help:
	@echo "make demo    fit the clinic trial and the tumour model, print them, draw the pictures into demo/"
	@echo "make test    run the tests (a few minutes)"
	@echo "make oldest  the same with the oldest versions of everything that bayou needs"
	@echo "make slow    run the tests that take long: calibration, long chains"
	@echo "make bench   time bayou beside those of its rivals that are there (hours; BAYOU_BENCH_MINUTES limits each)"
	@echo "make rivals  install the rivals, each into an environment of its own under .rivals/"
	@echo "make lint    ruff and mypy"
	@echo "make docs    build the site, with its examples run, into site/"

demo: $(VENV)/.with-bayou
	@$(BIN)/bayou demo clinic --out demo
	@$(BIN)/bayou demo tumor --out demo

# Files side by side: a file's tests share what it has fitted.
PARALLEL ?= --numprocesses=auto --maxprocesses=4 --dist=loadfile

test: $(VENV)/.with-dev
	@$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# A second environment with the oldest versions that pyproject.toml allows.
oldest:
	@$(MAKE) --no-print-directory VENV=.venv-oldest .venv-oldest/bin/python
	@.venv-oldest/bin/python tests/oldest.py > .venv-oldest/constraints.txt
	@.venv-oldest/bin/python -m pip -qq --disable-pip-version-check --no-input install --constraint .venv-oldest/constraints.txt --editable ".[dev]"
	@.venv-oldest/bin/python -m pytest -m "not slow" -W ignore::DeprecationWarning -W ignore::FutureWarning

slow: $(VENV)/.with-dev
	@$(BIN)/python -m pytest -m slow

bench: $(VENV)/.with-dev
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.likelihood
	@$(BIN)/python -m benchmarks.nested
	@$(BIN)/python -m benchmarks.general

rivals: $(VENV)/.with-dev
	@$(BIN)/python -m benchmarks.environments

lint: $(VENV)/.with-dev
	@$(BIN)/ruff check src tests benchmarks docs
	@$(BIN)/mypy src benchmarks docs/_hooks

docs: $(VENV)/.with-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "The site is in site/index.html"

# The first of these Pythons that is new enough; on a Debian without the venv package, pip fills the
# environment from outside.
$(BIN)/python:
	@for python in "$(PYTHON)" python3.11 python3.12 python3.13 python3.14 python3; do \
	    if [ -n "$$python" ] && "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "Making $(VENV) with $$("$$python" --version)"; \
	        "$$python" -m venv "$(VENV)" >/dev/null 2>&1 && exit 0; \
	        rm -rf "$(VENV)"; \
	        "$$python" -m venv --without-pip "$(VENV)" \
	            && "$$python" -m pip -qq --disable-pip-version-check --python "$@" install pip && exit 0; \
	        rm -rf "$(VENV)"; \
	    fi; \
	done; \
	echo "bayou needs Python 3.11 or newer with pip; none was found. Name one: make PYTHON=/path/to/python" >&2; exit 1

# A stamp says what is installed; it is renewed when pyproject.toml changes.
$(VENV)/.with-bayou: pyproject.toml | $(BIN)/python
	@echo "Installing bayou into $(VENV) (the first time this takes a minute or two)"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.with-dev: pyproject.toml | $(BIN)/python
	@echo "Installing bayou and its development tools into $(VENV) (the first time this takes a minute or two)"
	@$(PIP) install --editable ".[dev]"
	@touch $@ $(VENV)/.with-bayou

$(VENV)/.with-docs: pyproject.toml | $(BIN)/python
	@echo "Installing bayou and its documentation tools into $(VENV)"
	@$(PIP) install --editable ".[docs]"
	@touch $@ $(VENV)/.with-bayou
