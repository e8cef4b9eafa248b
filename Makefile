# make demo   train on handwritten digits, draw samples in three ways, print a table (a minute and a half on two cores)
# make test   all tests
# make check  lint, format and types
# make mutants  how many wrong numbers the tests let through (an hour or more; see tests/mutants.py)
# make docs   the documentation, into build/docs; a broken reference or an undocumented public name fails
# Each sets up .venv at the first call and skips that afterwards.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check mutants docs format setup clean

demo: setup
	$(BIN)/scoresde train

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadscope

check: setup
	$(BIN)/ruff check scoresde tests benchmarks docs
	$(BIN)/ruff format --check scoresde tests benchmarks docs
	$(BIN)/mypy
	cd benchmarks && ../$(BIN)/mypy --config-file mypy.ini .

mutants: setup
	$(BIN)/python tests/mutants.py

docs: setup
	$(BIN)/sphinx-build -q -E -W --keep-going -n docs build/docs

format: setup
	$(BIN)/ruff check --fix scoresde tests benchmarks docs
	$(BIN)/ruff format scoresde tests benchmarks docs

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("scoresde needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,sweep,docs]'
	touch $@

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache
