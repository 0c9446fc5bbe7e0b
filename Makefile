# Each target makes its own virtual environment: Python >= 3.11, make and git are all it needs.
#
#   make demo    the main job on the bundled real ICU stays
#   make test    all tests, the doctests of the public API among them
#   make check   linter, formatter, type checker, docstring validation, then the tests
#   make clean   remove the virtual environment and what the tools left behind
#
# Another interpreter: make test PYTHON=python3.13. One test file: make test TESTS=tests/metrics

PYTHON ?= python3
VENV ?= .venv
TESTS ?=
BIN := $(VENV)/bin
# constraints.txt pins what decides a result, torch above all
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# figures go to files, so that nothing waits for a window
RUN := MPLBACKEND=Agg $(BIN)/python

.DELETE_ON_ERROR:
.PHONY: demo test check lint clean
# two pip runs must not meet in one environment
.NOTPARALLEL:

demo: $(VENV)/.installed-demo
	$(RUN) examples/plot_01_quickstart.py

test: $(VENV)/.installed-test
	$(RUN) -m pytest $(TESTS)

check: lint test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_docstrings.py

# One stamp per extra: pip runs again only after pyproject.toml or constraints.txt changed.
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[$*]"
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: name a newer one, make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find sklearn_medfuse tests tools examples -name __pycache__ -prune -exec rm -rf {} +
