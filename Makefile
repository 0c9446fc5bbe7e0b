# Each target makes its own virtual environment: Python >= 3.11, make and git are all it needs.
#
#   make demo    the main job on the bundled real ICU stays
#   make test    all tests, the doctests of the public API among them
#   make check   linter, formatter, type checker, docstring validation, then the tests
#   make test-min  the tests with the oldest versions that pyproject.toml admits
#   make docs    the site, in docs/_build/html, with warnings as errors and its links checked
#   make clean   remove the virtual environment and what the tools left behind
#
# Another interpreter: make test PYTHON=python3.13. One test file: make test TESTS=tests/metrics

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
TESTS ?=
BIN := $(VENV)/bin
# it pins what decides a result, torch above all
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c $(CONSTRAINTS)
# figures go to files, so that nothing waits for a window
RUN := MPLBACKEND=Agg $(BIN)/python

.DELETE_ON_ERROR:
.PHONY: demo test test-min check lint docs clean
# two pip runs must not meet in one environment
.NOTPARALLEL:

demo: $(VENV)/.installed-demo
	$(RUN) examples/plot_01_quickstart.py

test: $(VENV)/.installed-test
	$(RUN) -m pytest $(TESTS)

test-min:
	$(MAKE) test VENV=.venv-min CONSTRAINTS=constraints-min.txt

check: lint test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_docstrings.py

docs: $(VENV)/.installed-docs
	MPLBACKEND=Agg $(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	$(BIN)/python tools/check_site.py docs/_build/html

# One stamp per extra: pip runs again only after pyproject.toml or constraints.txt changed.
$(VENV)/.installed-%: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) -e ".[$*]"
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: name a newer one, make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) .venv-min build dist docs/_build artifacts examples/artifacts docs/auto_examples docs/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find sklearn_medfuse tests tools examples -name __pycache__ -prune -exec rm -rf {} +
