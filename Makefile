# The bundle's commands: `make` alone lists them. What a run does is decided in params/RUN.yaml, not
# here, and what a command does in bundle/__main__.py.

# A run: the file params/RUN.yaml, what differs from it, and what to do again.
RUN ?= quick
SET ?=
SEED ?=
RETRAIN ?=
UNTIL ?=
# The head of the report.
AUTHOR ?=
COURSE ?=
# A release: what it keeps beside the figures.
WEIGHTS ?=
LOGITS ?=
# A study: the file params/studies/PLAN.yaml, or an epoch or two of it; the cluster's folder in
# cluster/; the seconds that a job waits for another process.
PLAN ?= small
TINY ?=
PROFILE ?= local
WAIT ?=
# The runs in README's table of results, in this order.
RUNS ?= cpu

VENV := .venv
BIN := $(VENV)/bin
BUNDLE = $(BIN)/python -m bundle
# The versions that the locked packages support, and the first Python of these here; PYTHON=...
# overrides.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c '$(SUPPORTED)' >/dev/null 2>&1 && echo $$p && break; done)
# Setup is up to date by the content of what it installs, not by file times.
LOCK := $(shell cat requirements.txt pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)
READY := $(VENV)/.installed-$(LOCK)
# BIN=/path/to/bin takes the Python there with the packages it has, and installs nothing: a
# container, a cluster's module.
ifeq ($(origin BIN),command line)
READY :=
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
$(if $(wildcard $(BIN)/python),,$(error BIN=$(BIN): no python there; name the folder that holds it))
endif
# The engine of `make study-cluster`, in an environment of its own.
CLUSTER := .venv-cluster
CLUSTER_LOCK := $(shell cksum requirements-cluster.txt 2>/dev/null | cut -d' ' -f1)
CLUSTER_READY := $(CLUSTER)/.installed-$(CLUSTER_LOCK)
# What every command about a run takes, and `study` about a plan.
WHICH = "$$RUN" --set "$$SET" --seed "$$SEED" --author "$$AUTHOR" --course "$$COURSE"
STUDY = "$$PLAN" $(if $(TINY),--tiny)
export RUN SET SEED AUTHOR COURSE UNTIL PLAN PROFILE
# The command that an error or an interrupted run names to go on with.
export BUNDLE_COMMAND = make run-all RUN=$(RUN)$(if $(SET), SET="$(SET)")$(if \
	$(SEED), SEED=$(SEED))$(if $(AUTHOR), AUTHOR="$(AUTHOR)")$(if \
	$(COURSE), COURSE="$(COURSE)")$(if $(RETRAIN), RETRAIN=1)$(if $(UNTIL), UNTIL=$(UNTIL))
INSTALL = -m pip install --quiet --disable-pip-version-check
# Two tests at a time; the tests of a file stay together, for they share what is made once.
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup setup-cluster data run-all status verify release release-render study study-jobs study-cluster \
	release-study claims bench bench-readme readme html pdf lab check test test-cluster lint strip \
	lock clean

help:
	@echo 'make run-all    # some 5 minutes; ends with results/quick/report.html'
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

##@ Start: [RUN=quick] [SEED=3] [SET="03_train.epochs=2"] [RETRAIN=1]

run-all: setup ## notebooks, pages, report (AUTHOR="A. Name" COURSE=...)
	@$(BUNDLE) run $(WHICH) --until "$$UNTIL" $(if $(RETRAIN),--retrain)

status: setup ## what a run reached; which notebooks are up to date
	@$(BUNDLE) status $(WHICH)

data: setup ## fetch CIFAR-10 into data/ (170 MB, verified; resumes)
	@$(BUNDLE) data

lab: setup ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir=. notebooks

##@ Results: [RUN=quick]

html: setup ## render the pages of a run and the index again
	@$(BUNDLE) pages "$$RUN"

pdf: setup ## print the report to PDF (needs Chromium or Chrome)
	@$(BUNDLE) pages "$$RUN" --pdf

verify: setup ## train a finished run again; compare bit for bit
	@$(BUNDLE) verify $(WHICH)

release: setup ## keep a run in results/released/ ([WEIGHTS=1] [LOGITS=1])
	@$(BUNDLE) release $(WHICH) $(if $(WEIGHTS),--weights) $(if $(LOGITS),--logits)

release-render: setup ## render what is released anew, from its records
	@$(BUNDLE) render

##@ Studies: [PLAN=small] [TINY=1]; make -j2 trains two at a time

study: setup ## train a plan's runs and seeds, compare them
	@jobs=$$($(BUNDLE) study jobs $(STUDY)) || exit $$?; \
	$(MAKE) --no-print-directory --keep-going study-jobs JOBS="$$jobs"; code=$$?; \
	$(BUNDLE) study collect $(STUDY) && exit $$code

study-jobs: $(addprefix study-job/,$(JOBS))

study-job/%:
	@$(BUNDLE) study job "$$PLAN" $* $(if $(TINY),--tiny) $(if $(WAIT),--wait $(WAIT))

release-study: setup ## keep the page of a plan in results/released/
	@test -f "results/studies/$$PLAN/study.html" || { echo \
		"error: results/studies/$$PLAN: no page yet; make study PLAN=$$PLAN" >&2; exit 2; }
	@mkdir -p results/released/studies && rm -rf "results/released/studies/$$PLAN"
	@cp -r "results/studies/$$PLAN" results/released/studies/
	@$(BUNDLE) render "studies/$$PLAN"

study-cluster: setup ## on a cluster (PROFILE=slurm, kubernetes, local)
	@$(BUNDLE) cluster $(STUDY) --profile "$$PROFILE" --check
	@$(MAKE) --no-print-directory setup-cluster
	@$(BUNDLE) cluster $(STUDY) --profile "$$PROFILE"

setup-cluster: $(CLUSTER_READY) ## its engine (done when needed)

$(CLUSTER_READY): requirements-cluster.txt
	@test -x $(CLUSTER)/bin/python || $(PYTHON) -m venv $(CLUSTER)
	@echo "installing Snakemake into $(CLUSTER) (some 400 MB, a minute; once)"
	@$(CLUSTER)/bin/python $(INSTALL) --require-hashes -r requirements-cluster.txt
	@rm -f $(CLUSTER)/.installed-*; touch $@

claims: setup ## judge the reference report's claims: results/claims.html
	@$(BUNDLE) claims

bench: setup ## measure speed and memory (10 minutes)
	@$(BIN)/python -m benchmarks.run

##@ Maintenance: check before a commit

check: lint ## lint, house rule and fast tests (two minutes)
	@$(PYTEST) -m "not slow"

test: setup ## run all tests (ten minutes on two free cores)
	@$(PYTEST)

test-cluster: setup setup-cluster ## a study on a real Slurm (Debian, as root)
	@$(BIN)/python -m pytest tests/cluster/slurm.py

lint: setup ## check code and notebooks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

strip: setup ## take the outputs out of notebooks/
	@$(BIN)/jupyter nbconvert --clear-output --inplace notebooks/*.ipynb

readme: setup ## write the generated parts of README.md and docs/
	@$(BUNDLE) readme $(RUNS)

bench-readme: setup ## keep what bench measured, in docs/speed.md
	@$(BIN)/python -m benchmarks.readme

setup: $(READY) ## install the locked packages (done when needed)

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found; install one, or:" \
		"make setup PYTHON=/path/to/python3.12" >&2; exit 2; }
	@test ! -d $(VENV) || $(BIN)/python -c '$(SUPPORTED)' || rm -rf $(VENV)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot make a" \
		"virtual environment (Debian: apt install python3-venv)" >&2; exit 2; }
	@echo "installing the locked packages into $(VENV): some 5 GB, 2 to 5 minutes, once; wait ..."
	@$(BIN)/python $(INSTALL) --require-hashes -r requirements.txt
	@$(BIN)/python $(INSTALL) --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-*; touch $@

lock: setup ## compile requirements.txt from .in anew (needs uv)
	@for name in requirements requirements-cluster; do uv pip compile --universal \
		--python-version 3.11 --generate-hashes --no-header $$name.in -o $$name.txt || exit; done

clean: ## remove what runs left in results/, nothing committed
	@git clean -fdX results
