# One command for each thing one does here; each sets up what it needs first. `make help` lists them.

SHELL := /bin/bash
PYTHON ?= python3
export PYTHON

BIN := .venv/bin
ARGS ?=
KEEP ?=
PART ?= patch
SOURCES := workers tasks chain storage compose tests benchmarks

# Warnings of TensorFlow's start are no news to anybody; its threads would fight with the tests' other processes.
export TF_CPP_MIN_LOG_LEVEL ?= 2

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z -]+:.*## / {printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.ready: pyproject.toml constraints.txt
	@compose/setup.sh python

.PHONY: setup
setup: .venv/.ready ## Set up .venv, Redis and the development chain (the other commands do so themselves)
	@compose/setup.sh services

.PHONY: demo
demo: setup ## The whole road on this machine, live; KEEP=1 leaves it running and prints the addresses
	@$(BIN)/fitchain-verifier demo $(if $(KEEP),--keep) $(ARGS)

.PHONY: test
test: setup ## All tests but the soak campaigns; ARGS="-k name" chooses
	@$(BIN)/python -m pytest -m "not soak" $(ARGS)

.PHONY: soak
soak: setup ## The long campaigns: fuzzing, faults, load
	@$(BIN)/python -m pytest -m soak --timeout 7200 $(ARGS)

.PHONY: bench
bench: setup ## The benchmarks, with the numbers that the documentation quotes
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: lint
lint: .venv/.ready ## Check style and format
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

.PHONY: format
format: .venv/.ready ## Put everything into shape, and fix what can be fixed
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

.PHONY: types
types: .venv/.ready ## Check types, strictly
	@$(BIN)/mypy

.PHONY: artifacts
artifacts: .venv/.ready ## Compile the contracts again (chain/artifacts)
	@$(BIN)/python -m chain.build

.PHONY: constraints
constraints: ## Compile constraints.txt again from pyproject.toml: newest versions that fit together
	@compose/constraints.sh

.PHONY: compose-tool kubo
compose-tool kubo: ## Build docker compose, or a real IPFS node, from source (Go), for the tests that use them
	@compose/tools.sh $(subst -tool,,$@)

.PHONY: release
release: .venv/.ready ## A new version: PART=patch, minor or major; writes pyproject and CHANGELOG, commits, tags
	@$(BIN)/bump-my-version bump $(PART)

.PHONY: clean
clean: ## Remove everything that these commands made in the checkout
	rm -rf .venv .local build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
