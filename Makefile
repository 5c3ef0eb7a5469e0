# Everything a newcomer needs: `make demo`, `make up`, `make test`. Which folders count, `mm` says in its first line.
PYTHON ?= python3
PORT ?= 3000
ENGINE ?= docker
BIN := .venv/bin
export VIRTUAL_ENV := $(CURDIR)/.venv
# The demo has folders of its own, whatever home there is: no other configuration falls back to them.
ifndef MM_CONFIG_DIR
DEMO = MM_CONFIG_DIR='$(CURDIR)/configs/demo' MM_DATA_DIR="$${MM_DATA_DIR:-$(CURDIR)/data/demo}"
endif


.PHONY: help setup demo up test test-slow test-long test-faults bench evidence lint docs constraints wheel image
.DEFAULT_GOAL := help

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/installed  ## install everything into .venv, what the tests need, too

# What runs is installed by itself: it is less than half, and is there for more versions of Python.
.venv/runs: pyproject.toml deploy/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	@echo 'installing what it needs to run into .venv, once: a minute or so'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r deploy/requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.venv/installed: .venv/runs constraints.txt
	@echo 'installing what the tests need, too, once: a minute or so'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r constraints.txt
	@touch $@

demo: .venv/runs  ## 120 days of a simulated market, one tick, the decisions
	@$(DEMO) $(BIN)/mm demo

up: .venv/runs  ## the UI on http://127.0.0.1:3000, with the schedule and the alerts running
	@$(BIN)/mm up --port $(PORT)

lint: setup  ## style, types and the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python .ci/defs_share.py

# What Python compiles is kept, whatever the caller's environment says: it is half of what collecting the tests takes.
test test-slow test-long: export PYTHONDONTWRITEBYTECODE =
test: lint  ## linters, types, rules of the house, and the tests that take no more than seconds
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder -m "not long and not slow"

test-slow: setup  ## whole ticks, pages and commands: three quarters of the time; CI runs them after `make test`
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder -m "slow and not long"

test-long: lint  ## the tests that take longer, too
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

test-faults: setup  ## a thousand injected faults and what they did; OUT=docs/reliability.md writes it down
	$(BIN)/python -m mm_dagster_tests.faults.run --at-once 2 $(if $(OUT),--out $(OUT))

bench: setup  ## what the parts cost
	$(BIN)/python -m benchmarks.regime
	$(BIN)/python -m benchmarks.replay
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.years
	$(BIN)/python -m benchmarks.schedule
	$(BIN)/python -m benchmarks.storage
	$(BIN)/python -m benchmarks.queries
	$(BIN)/python -m benchmarks.evaluation
	$(BIN)/python -m benchmarks.start
	$(BIN)/python -m benchmarks.api
	$(BIN)/python -m benchmarks.streams

evidence: setup  ## write docs/evidence.md and docs/evidence/ from the recorded candles
	$(BIN)/python -m benchmarks.evidence --out docs
	$(BIN)/python -m benchmarks.portfolio --out docs/evidence/portfolio.md
	$(BIN)/python -m benchmarks.coverage --out docs/evidence/coverage.md
	$(BIN)/python -m benchmarks.orders --out docs/evidence/orders.md

docs: setup  ## write docs/configuration.md, docs/features.md and docs/analysis.md from the code
	$(BIN)/python -m mm_dagster.config > docs/configuration.md
	$(BIN)/python -m mm_dagster.regime.reference > docs/features.md
	@data=$$(mktemp -d) && export MM_DATA_DIR=$$data MM_DAGSTER_DIR=$$data/dagster && $(MAKE) --no-print-directory demo \
		&& $(BIN)/python -m mm_dagster.cli.analysis > docs/analysis.md; rm -r $$data

constraints:  ## pin what pyproject.toml allows, newest first
	uv pip compile --universal --python-version 3.11 --extra dev --generate-hashes --upgrade --quiet \
		--no-emit-index-url --no-header --no-annotate -o constraints.txt pyproject.toml
	uv pip compile --universal --python-version 3.11 --extra postgres --extra s3 --generate-hashes --quiet --constraint constraints.txt \
		--no-emit-index-url --no-header --no-annotate -o deploy/requirements.txt pyproject.toml
	uv pip compile --universal --python-version 3.11 --extra cluster --generate-hashes --quiet --constraint constraints.txt \
		--no-emit-index-url --no-header --no-annotate -o deploy/requirements-cluster.txt pyproject.toml
	grep -oE '^[a-z0-9._-]+==[^\]*[^\ ]' deploy/requirements.txt > deploy/constraints.txt

wheel:  ## dist/mm_dagster-*.whl, which needs no checkout
	$(PYTHON) -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir dist .

image:  ## the image mm-dagster; ENGINE=podman where that builds it
	$(ENGINE) build --file deploy/Dockerfile --tag mm-dagster .
