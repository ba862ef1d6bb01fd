# Every target works from a fresh clone: what it needs is installed first, once.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.ONESHELL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The Python that makes the environments: 3.11 or newer.
export PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check

.PHONY: help install vllm gen gen-check lint types test lowest compat bench bench-auth bench-streams bench-vllm chaos fuzz polyglot docs lock run clean

help:  ## Say what the targets do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .stamps/install  ## Install both commands and the developer's tools into .venv
	@# As for an installed wheel. Python does it itself at the first start, but not everywhere.
	$(BIN)/python -m compileall -q src

vllm: .stamps/vllm  ## Install the miner with vLLM into .venv-vllm

gen: install  ## Regenerate the stubs in src/gen from protos
	@scripts/gen.sh

gen-check: gen  ## Regenerate the stubs, and fail if those committed differ
	@changes=$$(git status --porcelain -- src/gen)
	[ -z "$$changes" ] || { printf '%s\n' "src/gen is not what protos generate; commit what make gen wrote:" "$$changes"; exit 1; }

lint: install  ## Check style: Python with ruff, protos with buf, also against the last release's
	@$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/buf lint
	$(BIN)/buf breaking --against protos/released.binpb

types: install  ## Check types with mypy
	@$(BIN)/mypy

test: programs install vllm .stamps/node .stamps/compat gen-check lint types  ## Run every check and every test, real vLLM included
	@$(BIN)/pytest $(ARGS)

lowest: .stamps/lowest  ## Run what tests the libraries with the lowest versions that pyproject.toml allows
	@.venv-lowest/bin/pytest -m 'not vllm' tests/unit tests/integration $(ARGS)

compat: install vllm programs  ## Run other people's clients here and against `vllm serve`; ARGS=--help
	@$(BIN)/python -m compat $(ARGS)

bench: install  ## Measure the coordinator beside bare servers; ARGS=--help lists options
	@scripts/need.sh wrk=wrk
	$(BIN)/python -m benchmarks $(ARGS)

chaos: install  ## Kill, cut and fill at random, and check that no job is lost; ARGS=--help
	@$(BIN)/python -m chaos $(ARGS)

fuzz: install  ## Attack each border with what is nearly right; ARGS='--minutes 30'
	@$(BIN)/python -m tests.hostile $(ARGS)

polyglot: install .stamps/polyglot  ## Compile stubs, clients and miners in other languages, and run them
	@$(BIN)/pytest -m polyglot tests/polyglot $(ARGS)

docs: install  ## Regenerate the reference pages in docs/reference
	@$(BIN)/python -m scripts.docs

lock: install  ## Lock what docs/how-to/deploy.md installs, with hashes
	@scripts/lock.sh

bench-auth: install  ## Measure what keys and limits cost; ARGS=--help lists options
	@scripts/need.sh wrk=wrk
	$(BIN)/python -m benchmarks.auth $(ARGS)

bench-streams: install  ## Measure 500 readers of 500 streams; ARGS=--help lists options
	@$(BIN)/python -m benchmarks.streams $(ARGS)

bench-vllm: install vllm  ## Measure the coordinator beside `vllm serve`; ARGS=--help lists options
	@$(BIN)/python -m benchmarks.beside_vllm $(ARGS)

run: install vllm  ## Start the coordinator and a real vLLM miner, and ask a first question
	@exec $(BIN)/python -m scripts.run $(ARGS)

clean:  ## Remove environments, caches and build output; data stays
	@rm -rf .venv .venv-vllm .venv-lowest .venv-compat .venv-polyglot .stamps build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/e2e/node/node_modules tests/polyglot/node/node_modules clients/go/v1 clients/java/build clients/typescript/{node_modules,dist,src/gen}
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the tests need and pip does not have. First of all, because it may not be ours to install.
.PHONY: programs
programs:
	@scripts/need.sh node=nodejs npm=npm nginx=nginx chromium=chromium curl=curl git=git

.venv/bin/python .venv-vllm/bin/python .venv-lowest/bin/python:
	@scripts/venv.sh $(@D:/bin=)

.stamps/install: pyproject.toml constraints/dev.txt $(BIN)/python | .stamps
	@scripts/step.sh "Installing into .venv" $(PIP) install -c constraints/dev.txt -e '.[dev]'
	touch $@

.stamps/vllm: pyproject.toml constraints/vllm.txt scripts/vllm-env.sh .venv-vllm/bin/python | .stamps
	@scripts/vllm-env.sh
	touch $@

.stamps/lowest: pyproject.toml scripts/lowest-env.sh .venv-lowest/bin/python | .stamps
	@scripts/lowest-env.sh
	touch $@

.stamps/node: tests/e2e/node/package.json | .stamps programs
	@scripts/step.sh "Installing the Node client's libraries" npm install --prefix $(<D) --no-package-lock --no-audit --no-fund
	touch $@

.stamps/compat: compat/clients.toml $(wildcard compat/*.py) | .stamps/install programs
	@scripts/step.sh "Installing other people's clients" $(BIN)/python -m compat --quick --install
	touch $@

.stamps/polyglot: scripts/polyglot-env.sh tests/polyglot/node/package.json clients/typescript/package.json | .stamps programs
	@scripts/polyglot-env.sh
	touch $@

.stamps:
	@mkdir -p $@
