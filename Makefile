# The bundle's commands. `make` alone lists them. What a run does is decided in params/RUN.yaml, not here.

RUN ?= quick
SET ?=
SEED ?=
RETRAIN ?=
UNTIL ?=
RUNS ?= quick
PLAN ?= small
TINY ?=
PROFILE ?= local
WAIT ?=
WEIGHTS ?=
LOGITS ?=

VENV := .venv
BIN := $(VENV)/bin
# The first of these that runs and is of a version the locked packages support; PYTHON=... overrides.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1 && echo $$p && break; done)
# Setup is up to date by the content of what it installs, not by file times.
LOCK := $(shell cat requirements.txt pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)
READY := $(VENV)/.installed-$(LOCK)
# BIN=/path/to/bin takes the Python there with the packages it has, and installs nothing: a container, a cluster's module.
ifeq ($(origin BIN),command line)
READY :=
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
$(if $(wildcard $(BIN)/python),,$(error BIN=$(BIN): no python there; name the folder that holds it))
endif
# The engine of `make study-cluster`, in an environment of its own.
CLUSTER := .venv-cluster
CLUSTER_READY := $(CLUSTER)/.installed-$(shell cksum requirements-cluster.txt 2>/dev/null | cut -d' ' -f1)
OPTIONS = --set "$$SET" --seed "$$SEED" --until "$$UNTIL" $(if $(RETRAIN),--retrain)
export RUN SET SEED UNTIL PLAN PROFILE
export BUNDLE_COMMAND = make run-all RUN=$(RUN)$(if $(SET), SET="$(SET)")$(if $(SEED), SEED=$(SEED))$(if $(RETRAIN), RETRAIN=1)$(if $(UNTIL), UNTIL=$(UNTIL))

.DEFAULT_GOAL := help
.PHONY: help setup setup-cluster data run-all status verify release study study-jobs study-cluster release-study claims bench bench-readme readme html pdf lab check test test-cluster lint strip lock clean

help: ## list the targets
	@echo "make run-all [RUN=quick] [SET=\"03_train.epochs=2 seed=7\"] [SEED=3] [RETRAIN=1] [UNTIL=03_train]"; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## make .venv and install the locked packages (done by the others when needed)

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found; install one, or: make setup PYTHON=/path/to/python3.12" >&2; exit 2; }
	@test ! -d $(VENV) || $(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || rm -rf $(VENV)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot make a virtual environment (Debian: apt install python3-venv)" >&2; exit 2; }
	@echo "installing the locked packages into $(VENV) (some 5 GB, minutes; once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-*; touch $@

data: setup ## fetch CIFAR-10 into data/ (170 MB, verified; resumes)
	@$(BIN)/python -m bundle data

run-all: setup ## run the notebooks of a run, render its pages, end with the figures
	@$(BIN)/python -m bundle run "$$RUN" $(OPTIONS)

status: setup ## say for each notebook of a run whether it is up to date, and if not, what changed
	@$(BIN)/python -m bundle status "$$RUN" --set "$$SET" --seed "$$SEED"

verify: setup ## train a finished run again from nothing and compare weights and test accuracy
	@$(BIN)/python -m bundle verify "$$RUN" --set "$$SET" --seed "$$SEED"

release: setup ## write a finished run to results/released/, to be committed (WEIGHTS=1, LOGITS=1: to be used without training)
	@$(BIN)/python -m bundle release "$$RUN" --set "$$SET" --seed "$$SEED" $(if $(WEIGHTS),--weights) $(if $(LOGITS),--logits)

study: setup ## train a plan's runs and seeds (make -j4 study PLAN=full; TINY=1 to try it), show them together
	@jobs=$$($(BIN)/python -m bundle study jobs "$$PLAN" $(if $(TINY),--tiny)) || exit $$?; \
	$(MAKE) --no-print-directory --keep-going study-jobs JOBS="$$jobs"; code=$$?; \
	$(BIN)/python -m bundle study collect "$$PLAN" $(if $(TINY),--tiny) && exit $$code

study-jobs: $(addprefix study-job/,$(JOBS))

study-job/%:
	@$(BIN)/python -m bundle study job "$$PLAN" $* $(if $(TINY),--tiny) $(if $(WAIT),--wait $(WAIT))

study-cluster: setup ## do the same on a cluster: PROFILE=slurm, kubernetes, local or your own folder in cluster/
	@$(BIN)/python -m bundle cluster "$$PLAN" --profile "$$PROFILE" $(if $(TINY),--tiny) --check
	@$(MAKE) --no-print-directory setup-cluster
	@$(BIN)/python -m bundle cluster "$$PLAN" --profile "$$PROFILE" $(if $(TINY),--tiny)

setup-cluster: $(CLUSTER_READY) ## make .venv-cluster with the engine for clusters (done by study-cluster when needed)

$(CLUSTER_READY): requirements-cluster.txt
	@test -x $(CLUSTER)/bin/python || $(PYTHON) -m venv $(CLUSTER)
	@echo "installing Snakemake into $(CLUSTER) (some 400 MB, a minute; once)"
	@$(CLUSTER)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-cluster.txt
	@rm -f $(CLUSTER)/.installed-*; touch $@

release-study: ## keep the page of a plan under results/released/, which is committed
	@test -f "results/studies/$$PLAN/study.html" || { echo "error: results/studies/$$PLAN: no page yet; make study PLAN=$$PLAN" >&2; exit 2; }
	@mkdir -p results/released/studies && rm -rf "results/released/studies/$$PLAN" && cp -r "results/studies/$$PLAN" results/released/studies/

claims: setup ## judge the reference report's claims by what is here, on a page of its own
	@$(BIN)/python -m bundle claims

bench: setup ## measure speed and memory beside the reference's pipeline (CIFAR-10; some 10 minutes on two cores)
	@$(BIN)/python -m benchmarks.run

bench-readme: setup ## keep those measurements in benchmarks/results/ and write their table into docs/speed.md
	@$(BIN)/python -m benchmarks.readme

readme: setup ## write the generated tables of README.md (the runs named in RUNS) and docs/
	@$(BIN)/python -m bundle readme $(RUNS)

html: setup ## render the pages of a run again, and the index over all runs
	@$(BIN)/python -m bundle pages "$$RUN"

pdf: setup ## print the report of a run to PDF (needs a Chromium or Chrome)
	@$(BIN)/python -m bundle pages "$$RUN" --pdf

lab: setup ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir=. notebooks

check: setup ## lint, house rule and fast tests (two minutes)
	@$(MAKE) --no-print-directory lint

test: setup ## run all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-cluster: setup setup-cluster ## try a study on a real Slurm on this machine (Debian, as root; installs it where missing)
	@$(BIN)/python -m pytest tests/cluster/slurm.py

lint: setup ## check code and notebooks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

strip: setup ## take the outputs out of notebooks/ after working in JupyterLab
	@$(BIN)/jupyter nbconvert --clear-output --inplace notebooks/*.ipynb

lock: setup ## compile the two requirements.txt anew from their .in (needs uv)
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-header requirements.in -o requirements.txt
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-header requirements-cluster.in -o requirements-cluster.txt

clean: ## remove what runs left under results/, but nothing that is committed; data and .venv stay
	@git clean -fdX results
