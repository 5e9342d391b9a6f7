PYTHON ?= python3
VENV := .venv
PROFILES ?= demo
export DAGSTER_HOME := $(CURDIR)/.dagster
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help setup demo serve ui test test-services test-scale test-ui lint bench
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed  ## install DualGeo and its dependencies into .venv

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "DualGeo needs Python 3.11 to 3.13: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[cpu,postgres,serve,cluster,dev]'
	touch $@

demo: setup  ## run the whole pipeline on the synthetic Earth and print the scores
	$(VENV)/bin/dualgeo run --profile demo

serve: setup  ## serve the page that locates photos with the demo's model, until Ctrl-C
	$(VENV)/bin/dualgeo serve --profile demo

ui: setup  ## serve Dagster's and MLflow's web pages until Ctrl-C (several profiles: PROFILES="demo folder")
	$(VENV)/bin/dualgeo ui $(PROFILES:%=--profile %)

test: setup  ## run the tests of the library and the graph, in two processes
	$(VENV)/bin/pytest --numprocesses 2 --dist loadfile --ignore tests/services --ignore tests/scale

test-services: setup  ## run the tests that kill, restart and grow deployments
	$(VENV)/bin/pytest --numprocesses 2 --dist loadfile tests/services

test-scale: setup  ## build a gallery of 50,000 photos in 2 GB of memory, on one process and on three nodes
	$(VENV)/bin/pytest tests/scale

test-ui: setup  ## test both web pages in headless Chromium (apt install chromium); screenshots: artifacts/screenshots
	$(VENV)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[ui-test]'
	$(VENV)/bin/pytest --ui -m ui

lint: setup  ## check style, types, and the order of imports between folders (ruff, mypy, import-linter)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: setup  ## measure the relative speed of training and refinement
	$(VENV)/bin/python benchmarks/train_step.py
	$(VENV)/bin/python benchmarks/refine_speed.py
