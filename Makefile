# Every target sets up what it needs on a bare Debian machine with Python and make; a second run
# finds it there. PYTHON=python3.12 make test uses another interpreter.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help setup demo test lint docs bench django-suite servers clean

help:
	@echo "make demo     watch a site hang, see why, fix it, measure, roll back (report.html)"
	@echo "make test     all tests, on every supported Python that is here"
	@echo "make lint     ruff, mypy --strict, the house's import rules"
	@echo "make docs     HTML documentation in docs/_build"
	@echo "make bench    side-by-side measurements (ARGS=lending for one of them)"
	@echo "make django-suite   Django's own tests, stock backend and ours side by side"
	@echo "make servers  unpack MariaDB 11.8 and MySQL 9.7 beside the system's server"
	@echo "make clean    remove what these targets made"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh "$(PYTHON)" "$(VENV)"

demo: $(STAMP)
	@$(BIN)/unhang demo

test: $(STAMP)
	@scripts/test.sh "$(VENV)" $(ARGS)

lint: $(STAMP)
	@scripts/lint.sh "$(VENV)"

docs: $(STAMP)
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build
	@echo "docs/_build/index.html"

bench: $(STAMP) $(VENV)/.bench
	@$(BIN)/python benchmarks/run.py $(ARGS)

django-suite: $(STAMP) $(VENV)/.suite
	@$(BIN)/python scripts/django_suite.py $(ARGS)

$(VENV)/.bench $(VENV)/.suite: $(VENV)/.%: pyproject.toml constraints.txt | $(STAMP)
	@scripts/setup.sh "$(PYTHON)" "$(VENV)" dev,$*
	@touch $@

servers:
	@scripts/get_servers.sh

clean:
	rm -rf .venv* .servers .cache docs/_build report.html report.json hang.html .pytest_cache .mypy_cache .ruff_cache .hypothesis
