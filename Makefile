# Persona Hub on one machine. `make demo` and `make test` set up what they need; every target may be run again at any time.
# Everything made here lies in the ignored folder .hub.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo up down status test test-pure test-spark test-airflow test-long test-e2e soak bench-calls bench-crawl bench-dedup lint docs lock clean

ROOT := $(CURDIR)
HUB := $(ROOT)/.hub
PYTHON := $(HUB)/venv/bin/python
export PATH := $(HUB)/venv/bin:$(PATH)
export PYTHONPATH := $(ROOT)/include:$(ROOT)/plugins
export JAVA_HOME = $(shell readlink -f $(HUB)/java 2>/dev/null)

SOURCE ?=
SPARK_TESTS := tests/spark_jobs tests/quality tests/spark
AIRFLOW_TESTS := tests/plugins tests/dags
E2E_TESTS := tests/e2e
SOAK_TESTS := tests/soak
LONG_TESTS := tests/crawl/test_fuzz.py tests/core/test_real_pages.py tests/dedup
# With Spark, and longer than CI has time for: every crash point of a recomputation, cells trained again and again.
SLOW_TESTS := tests/spark_jobs/test_recompute.py tests/spark/test_cells.py
PYTEST := $(PYTHON) -m pytest --durations=5

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

setup:  ## environment, Java, Delta's jars; silent when nothing is to do
	@include/local/setup.sh "$(HUB)"

demo: setup  ## the whole way of the data over the sample crawl; SOURCE=folder-or-URL for your own WET files
	@$(PYTHON) -m local.demo $(if $(SOURCE),--source "$(SOURCE)")

up: setup  ## starts the crawl mirror, the model server and Airflow; says where
	@$(PYTHON) -m local.services up

down:  ## stops all of them, running Spark drivers included
	@if [ -x "$(PYTHON)" ]; then $(PYTHON) -m local.services down; else echo "Nothing runs: there is no environment."; fi

status: setup  ## what runs, and where
	@$(PYTHON) -m local.services status

test: lint test-pure test-long test-spark test-airflow test-e2e  ## all checks and tests, the quickest first

test-pure: setup  ## tests without Java and Airflow
	@echo "== pure"
	@$(PYTEST) -n 2 tests $(addprefix --ignore=,$(SPARK_TESTS) $(AIRFLOW_TESTS) $(E2E_TESTS) $(SOAK_TESTS) $(LONG_TESTS))

test-long: setup  ## a minute of broken crawl files; every real page by a plain reading too; deduplication by brute force too
	@echo "== long"
	@HUB_FUZZ_SECONDS=60 $(PYTEST) -n 2 $(LONG_TESTS)

test-spark: setup  ## tests with Spark and real Delta tables
	@echo "== spark"
	@$(PYTEST) -n 2 --dist worksteal $(SPARK_TESTS) $(addprefix --ignore=,$(SLOW_TESTS))

test-airflow: setup  ## tests that import Airflow
	@echo "== airflow"
	@$(PYTEST) $(AIRFLOW_TESTS)

test-e2e: setup  ## a real Airflow drives the real jobs
	@echo "== end to end"
	@$(PYTEST) $(E2E_TESTS)

soak: setup  ## what takes longer than CI has time for: kills, restarts and batches under a real Airflow
	@echo "== soak"
	@$(PYTEST) --timeout=1200 $(SOAK_TESTS) $(SLOW_TESTS)
	@HUB_FUZZ_SECONDS=600 $(PYTEST) --timeout=900 tests/crawl/test_fuzz.py

PARTS ?=
bench-calls: setup  ## model calls beside their ideal and their peers; PARTS="process limits stage start peers"
	@$(PYTHON) tests/bench/calls.py $(PARTS)

bench-crawl: setup  ## reading the crawl beside its peers; PARTS="wet warc rules whole linear calendar"
	@$(PYTHON) tests/bench/crawl.py $(PARTS)

bench-dedup: setup  ## deduplication beside its peers; PARTS="words minhash incremental peers slope vectors new_vectors embedding"
	@$(PYTHON) tests/bench/dedup.py $(PARTS)

lint: setup  ## style, Airflow's rules, types, import directions, generated docs
	@echo "== lint"
	@ruff check --quiet .
	@ruff check --quiet --preview --select AIR dags plugins
	@mypy
	@PYTHONPATH="$(PYTHONPATH):$(ROOT)" lint-imports --no-cache | sed -n '/BROKEN/p;/^Contracts:/,$$p'; exit $${PIPESTATUS[0]}
	@$(PYTHON) -m local.docs --check

docs: setup  ## writes the generated pages of docs/
	@$(PYTHON) -m local.docs

lock: setup  ## compiles requirements.txt from requirements.in
	@uv=$$(include/local/setup.sh "$(HUB)" --which-uv) && "$$uv" pip compile --quiet --python-version 3.11 \
		--custom-compile-command "make lock" --output-file requirements.txt requirements.in

clean: down  ## stops everything and removes what was made, environment and lake included
	@rm -rf "$(HUB)" .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
