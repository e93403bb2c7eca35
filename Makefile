# `make demo` and `make test` need a Python >= 3.11 with venv and nothing else.
PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
# Where pip finds a CPU build of torch. Empty: where pip looks anyway, which for Linux may
# bring CUDA along (gigabytes); name PyTorch's index of CPU wheels here to avoid that.
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo recall gallery test lint format types unit peers clean

help: ## show what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/ready ## train a small language model on real text, sample from it (< 4 min)
	$(BIN)/python -m examples.char_lm.train

recall: $(VENV)/ready ## overwritten values: linear attention against two memories (< 4 min)
	$(BIN)/python -m examples.recall.overwrite

gallery: $(VENV)/ready ## a page for every layer of the library, in gallery-out
	$(BIN)/seqdsl gallery -o gallery-out --parity docs/parity.json $(if $(BENCH),--bench $(BENCH))

test: lint types unit peers ## everything that continuous integration checks (< 20 min)

lint: $(VENV)/ready ## formatting and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/ready ## pyright, strict
	$(BIN)/pyright --pythonpath $(BIN)/python

unit: $(VENV)/ready ## the tests, warnings as errors
	$(BIN)/python -m pytest -q -n $(JOBS)

peers: $(VENV)/peers ## the library against published code (installs it)
	$(BIN)/python -m pytest -q tests/peers

format: $(VENV)/ready ## rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what the targets made
	rm -rf $(VENV) demo-out gallery-out build dist seqdsl.egg-info

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "seqdsl needs Python >= 3.11; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV) (torch takes a minute)"
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/peers: $(VENV)/ready
	@echo "installing published models to compare with"
	$(PIP) -e '.[peers]'
	@touch $@
