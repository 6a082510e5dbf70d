# Everything starts here: each target makes its own environment.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := .venv-bench
BENCH_READY := $(BENCH)/.ready
# Two cores: two test processes, one thread each, are faster than one process with two threads.
TEST_ENV := OMP_NUM_THREADS=1 MPLBACKEND=Agg HF_HUB_OFFLINE=1

.PHONY: help demo test test-slow lint format bench docs clean
help: ## what each target does
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev,docs]'
	touch $@

demo: $(READY) ## train, reflow and report on digits in under five minutes: runs/demo/report.html
	$(BIN)/python -m advect.demo --folder runs/demo

test: $(READY) ## the quick tests (under 12 minutes on 2 cores)
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(READY) ## the minutes-long tests
	$(TEST_ENV) $(BIN)/python -m pytest -m slow

lint: $(READY) ## style, types, and the floors of the architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(READY) ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BENCH_READY): pyproject.toml constraints.txt benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/pip install --quiet --upgrade pip
	$(BENCH)/bin/pip install --quiet --constraint constraints.txt torch
	$(BENCH)/bin/pip install --quiet --constraint constraints.txt --editable '.[ot,io]' --requirement benchmarks/requirements.txt
	$(BENCH)/bin/pip install --quiet --no-deps torchcfm==1.0.7 flow_matching==1.0.10
	touch $@

bench: $(BENCH_READY) ## ratios against hand-written code and peers, written to benchmarks/results.json and README
	OMP_NUM_THREADS=1 $(BENCH)/bin/python -m benchmarks

docs: $(READY) ## build the documentation site into site/
	$(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

clean: ## remove environments and build products
	rm -rf $(VENV) $(BENCH) site build dist .pytest_cache .ruff_cache
