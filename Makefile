# Every target sets up what it needs: a fresh machine wants Python 3.11 or newer, make, and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SLIDE ?=
MODEL ?=
PEERS ?=
WORKERS ?= 1
# Threads that wait must not spin, or a busy machine comes to a halt.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs study bench bench-rd clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 10

setup: $(VENV)/.installed  ## Make .venv and install wsicomp with its development tools

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all]" --group dev
	touch $@

demo: setup  ## Encode, decode and verify a tissue slide at depths 1 to 4; SLIDE=path.svs, MODEL=name
	$(BIN)/python -m benchmarks.demo $(if $(MODEL),--model $(MODEL)) $(SLIDE)

test: setup  ## Run the tests; with WSICOMP_DATA set, on real slides and patches too
	$(BIN)/python -m pytest

check: setup  ## Lint, types, import direction, and what the pages say of commands, options and figures
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_docs.py tests/test_docs_figures.py

docs: setup  ## Write the command reference, docs/commands.md, anew
	$(BIN)/python -m tests.reference

study: setup  ## Train and evaluate the founding study on the patches in WSICOMP_DATA
	$(BIN)/python -m benchmarks.study

bench: setup  ## Measure start-up time, memory and the pipeline's speed; results in benchmarks/results
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.pipeline

bench-rd: setup  ## Measure rate and distortion of all codecs on the patches in WSICOMP_DATA; PEERS=folder of weights
	$(BIN)/python -m benchmarks.rd $(if $(PEERS),--peers $(PEERS)) --workers $(WORKERS)

clean:  ## Remove .venv, demo/ and caches; runs/, which holds trainings, stays
	rm -rf $(VENV) demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
