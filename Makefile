# Start here: `make run` shows Hookmill at work, `make test` runs all checks.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
# Another environment, on another interpreter: make bench VENV=.bench/pgo PYTHON=/usr/bin/python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test format check unit cost lock sbom audit matrix chaos order rules fuzz bench docs image clean

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: $(VENV)/run.stamp ## Run the whole line here: embedded server, receiver, workers, signed samples
	@exec $(BIN)/hookmill dev --samples

test: check unit ## Format, lint, types, import direction, documentation, tests

check: $(VENV)/develop.stamp ## Format, lint, types and import direction, without the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The tests of one file run in one process, because each process has its own servers. The order of the files is
# that of tests/conftest.py, which mixes those that wait with those that compute. The processes share the bytecode
# that they write, so that none prepares what another has prepared, whatever the environment says.
PROCESSES ?= 6
unit: $(VENV)/develop.stamp ## Only the tests (make unit ARGS='-k name')
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

format: $(VENV)/develop.stamp ## Format the code and apply what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

cost: $(VENV)/develop.stamp ## What a message costs in each step, counted (make cost ARGS=--write makes it the bound)
	$(BIN)/python -m tests.cost $(ARGS)

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header

# production: what a deployed program needs. build: what builds the package. run: both, and the embedded server.
lock: $(VENV)/develop.stamp ## Update the locks from pyproject.toml
	$(LOCK) pyproject.toml --all-extras --group build -o locks/run.txt --upgrade
	$(LOCK) pyproject.toml --extra asymmetric --extra console --extra metrics --extra otel -c locks/run.txt -o locks/production.txt --upgrade
	$(LOCK) --group build -c locks/run.txt -o locks/build.txt --upgrade
	$(LOCK) pyproject.toml --all-extras --group build --group test --group lint --group docs -c locks/run.txt -o locks/develop.txt --upgrade

sbom: $(VENV)/develop.stamp ## Write what a release consists of into dist/, as CycloneDX JSON
	$(BIN)/python -m locks.sbom $(ARGS)

audit: $(VENV)/develop.stamp ## Compare the locks with known advisories; "NOT CHECKED" if that cannot be found out
	$(BIN)/python -m locks.audit $(ARGS)

matrix: $(VENV)/develop.stamp ## The tests that depend on the server, on each server that can be had (make matrix ARGS=redis-8.2)
	$(BIN)/python -m tests.matrix $(ARGS)

chaos: $(VENV)/develop.stamp ## 100,000 messages and 200 faults with real processes (make chaos ARGS='--seed 7')
	$(BIN)/python -m tests.chaos $(ARGS)

order: $(VENV)/develop.stamp ## 100,000 messages with ordering keys, workers killed (make order ARGS='--partitions 4')
	$(BIN)/python -m tests.order $(ARGS)

rules: $(VENV)/develop.stamp ## Remove each rule and check that its tests fail (make rules ARGS='3 7')
	$(BIN)/python -m tests.rules $(ARGS)

fuzz: $(VENV)/develop.stamp ## A million mutated requests against a receiver (make fuzz ARGS='--seed 7')
	$(BIN)/python -m tests.fuzz_requests $(ARGS)

# The most important ones first. One that fails does not keep the others from running. The simulation reckons with the
# figures that the others have measured.
TABLES = end_to_end receiver worker bodies memory wire redis_cost latency scaling growth steps cockpit wakeups fleet startup verification worst_bodies simulation
bench: $(VENV)/develop.stamp ## Every table of docs/explanation/performance.md (make bench TABLES=worker ARGS='--rounds 5')
	@for table in $(TABLES); do [ $$table != simulation ] || $(BIN)/python docs/generate.py; \
	  $(BIN)/python -m benchmarks.$$table $(ARGS) || failed="$$failed $$table"; done; \
	  $(BIN)/python -m benchmarks.report && if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

SITE := .docs
docs: $(VENV)/develop.stamp ## Renew the generated pages and build the documentation into .docs/
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet docs $(SITE)
	@echo "the site is in $(SITE)/index.html"

EXTRAS :=
image: ## Build the container image (needs Docker; make image EXTRAS=asymmetric,metrics)
	docker build -f deploy/Dockerfile --build-arg EXTRAS=$(EXTRAS) -t hookmill .

clean: ## Remove everything that the other targets made
	rm -rf .venv .bench .docs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/run.stamp: locks/run.txt pyproject.toml | $(BIN)/python
	@echo "installing what it needs to run ..."
	@$(INSTALL) --require-hashes -r locks/run.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/develop.stamp: locks/develop.txt $(VENV)/run.stamp
	@echo "installing what the tests need ..."
	@$(INSTALL) --require-hashes -r locks/develop.txt
	@touch $@

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then echo "Hookmill needs Python 3.11 or newer"; exit 1; fi
	@$(PYTHON) -m venv $(VENV)
