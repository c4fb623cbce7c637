# 'make demo' and 'make test' set up .venv where it is missing or older than what it was made from, then run.
PYTHON ?= python3
JOBS ?= 2
OUT ?= demo
BIN := .venv/bin
STAMP := .venv/.made-from-pyproject-and-constraints

# Where it is set, each of the hundred processes that tests start would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test quick torture controls lint format docs figures clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or later is needed: make PYTHON=/path/to/python3.11 ...' >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP) ## the whole way on made-up scenes: minutes on a CPU, results in demo/
	$(BIN)/geodistill demo --out $(OUT)

# One thread a process: two processes of tests use two cores better than one process with two threads.
test: $(STAMP) ## every test but the torture
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

quick: $(STAMP) ## the tests that take no long runs, in minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not slow'

# Real commands, killed, on full disks, two at once, fed with broken files. GEODISTILL_TORTURE=10 for ten times as many trials, 0.1 for a few.
torture: $(STAMP) ## kill, starve and feed the commands; prints a table of what they did
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup tests/torture -m torture

controls: $(STAMP) ## does each training mechanism win where its premise holds: a table, minutes on a CPU
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/controls.py

lint: $(STAMP) ## style, types and the order of the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## put the code into the project's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## the documentation as a site in site/ (needs the 'docs' extra)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 COLUMNS=100 $(BIN)/python -m mkdocs build --strict

figures: $(STAMP) ## the pictures of README and guides, from real imagery in GEODISTILL_SHARED
	$(BIN)/python benchmarks/figures.py --out docs/kampala.jpg
	$(BIN)/python benchmarks/gallery.py --work build/gallery

clean: ## remove .venv and caches, not results
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build site src/*.egg-info
