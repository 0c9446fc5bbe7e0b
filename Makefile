# Each target makes its own virtual environment: Python >= 3.11, make and git are all it needs.
#
#   make demo    the main job on the bundled real ICU stays
#   make test    the tests, the doctests of the public API among them, on all cores
#   make test-slow    those that take long: kills, storms, fuzzing, tools
#   make test-all     both
#   make check   linter, formatter, type checker, docstrings, audit, the tests, also with test-min
#   make audit   known advisories and licences of what is installed; REQUIRE=1 to insist
#   make test-min     the tests with the oldest versions that pyproject.toml admits
#   make test-latest  the tests with the newest versions of all but torch
#   make mutants   a sample of small changes to the code, each of which a test has to see
#   make wheel-test   wheel and source distribution: built twice, checked, installed elsewhere
#   make docs    the site, in docs/_build/html, with warnings as errors
#   make links   the site's links, which needs a network
#   make clean   remove the virtual environment and what the tools left behind
#
# Another interpreter: make test PYTHON=python3.13. One test file: make test TESTS=tests/metrics

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
TESTS ?=
# Further options of pip-audit, such as "-s osv" or "--ignore-vuln ID", and where reports go
AUDIT ?=
REQUIRE ?=
REPORTS ?= artifacts
PIP_OPTIONS ?=
# Of the tests, what the installed wheel has to pass beside its doctests
WHEEL_TESTS ?= tests/model_selection tests/notes/test_gguf.py tests/test_golden.py tests/test_pipeline.py
BIN := $(VENV)/bin
# It pins what decides a result, torch above all
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) -c $(CONSTRAINTS)
# Figures go to files, so that nothing waits for a window
RUN := MPLBACKEND=Agg $(BIN)/python

.DELETE_ON_ERROR:
.PHONY: demo test test-slow test-all mutants test-min test-latest check lint audit dist wheel-test docs links clean
# Two pip runs must not meet in one environment
.NOTPARALLEL:

demo: $(VENV)/.installed-demo
	$(RUN) examples/plot_01_quickstart.py

# A worker for each core, with one thread each; a file's tests stay together, as its fixtures do.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n logical --dist loadfile

test: $(VENV)/.installed-test
	$(PYTEST) -m "not slow" $(TESTS)

test-slow: $(VENV)/.installed-test
	$(PYTEST) -m slow $(TESTS)

test-all: test test-slow

mutants: $(VENV)/.installed-test
	$(BIN)/python tools/measure_mutants.py

test-min:
	$(MAKE) test VENV=.venv-min CONSTRAINTS=constraints-min.txt

test-latest:
	rm -f .venv-latest/.installed-test
	$(MAKE) test VENV=.venv-latest CONSTRAINTS=constraints-latest.txt \
		PIP_OPTIONS="--upgrade --upgrade-strategy eager"

check: lint audit test test-min

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/check_docstrings.py
	$(BIN)/python tools/check_comments.py

# What pip-audit may not ask about counts as not audited: it says "No known vulnerabilities" where
# an index has packages but no advisories, as mirrors do, and writes no report without a network.
audit: $(VENV)/.installed-dev
	@mkdir -p $(REPORTS) && rm -f $(REPORTS)/audit.json
	$(BIN)/pip-licenses --format markdown --output-file $(REPORTS)/licences.md
	$(BIN)/pip list --exclude-editable --format freeze | sed 's/+.*//' > $(REPORTS)/audited.txt
	$(BIN)/pip-audit -r $(REPORTS)/audited.txt --no-deps --disable-pip --progress-spinner off \
		--desc off $(AUDIT) -f json -o $(REPORTS)/audit.json || true
	@if grep -qs '"id"' $(REPORTS)/audit.json; then \
		echo "Advisories are known: see $(REPORTS)/audit.json"; exit 1; fi
	@if ! grep -qs '"vulns"' $(REPORTS)/audit.json || grep -q '"skip_reason"' $(REPORTS)/audit.json; \
		then echo "NOT AUDITED, or not all of it. This is no clean result."; \
		echo "$(REPORTS)/audited.txt lists what is installed, to be audited elsewhere."; \
		exit $(if $(REQUIRE),2,0); fi

# The second build, from the source distribution with other dates, has to give the same bits.
dist: $(VENV)/.installed-release
	rm -rf dist
	export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 1577836800) && \
		$(BIN)/python -m build && again=$$(mktemp -d) && tar -xzf dist/*.tar.gz -C $$again && \
		find $$again -exec touch -t 200109090000 {} + && \
		$(BIN)/python -m build --outdir $$again/dist $$again/sklearn_medfuse-* && \
		for file in dist/*; do cmp $$file $$again/$$file || exit 1; done && rm -rf $$again
	@# W002, the same content twice: the data's licence lies beside the data and with the licences
	$(BIN)/check-wheel-contents --ignore W002 --package sklearn_medfuse dist/*.whl
	$(BIN)/python -m twine check --strict dist/*

# -I: neither the folder nor PYTHONPATH may put the tree's package before the installed one
wheel-test: dist
	rm -rf .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --disable-pip-version-check -c $(CONSTRAINTS) \
		"$$(echo dist/*.whl)[test]"
	outside=$$(mktemp -d) && cp -r tests $$outside && cd $$outside && \
		$(CURDIR)/.venv-wheel/bin/python -I -c "import sklearn_medfuse as package, sys; \
			sys.exit(not package.__file__.startswith(sys.prefix))" && \
		MPLBACKEND=Agg $(CURDIR)/.venv-wheel/bin/python -I -m pytest -c $(CURDIR)/pyproject.toml \
			--rootdir . -p no:cacheprovider $(WHEEL_TESTS) --pyargs sklearn_medfuse && \
		rm -rf $$outside

docs: $(VENV)/.installed-docs
	MPLBACKEND=Agg $(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	@# Hospitals read it without a network: no page loads anything from elsewhere
	! grep -rE '<(script|link|img|iframe|source) [^>]*(src|href)="(https?:)?//' \
		--include='*.html' --exclude-dir=_static docs/_build/html

links: $(VENV)/.installed-docs
	MPLBACKEND=Agg $(BIN)/sphinx-build -b linkcheck docs docs/_build/links

# One stamp per extra: pip runs again only after pyproject.toml or constraints.txt changed.
$(VENV)/.installed-%: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) -e ".[$*]"
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: name a newer one, make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) .venv-min .venv-latest .venv-wheel build dist docs/_build artifacts examples/artifacts docs/auto_examples docs/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find sklearn_medfuse tests tools examples -name __pycache__ -prune -exec rm -rf {} +
