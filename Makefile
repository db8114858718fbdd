# The bundle's commands: `make` alone lists them. What a run does is decided in params/RUN.yaml, not
# here, and what a command does in bundle/__main__.py.

# A run: the file params/RUN.yaml, what differs from it, and what to do again.
RUN ?= quick
SET ?=
SEED ?=
RETRAIN ?=
UNTIL ?=
# The cores to compute with, or auto: another number gives other bits, so a folder of its own.
THREADS ?=
# The head of the report.
AUTHOR ?=
COURSE ?=
# A release: what it keeps beside report and figures, or without them.
WEIGHTS ?=
LOGITS ?=
RECORD ?=
# Pictures of one's own: a folder or a picture, and whether maps of what decides are wanted.
IMAGES ?=
OCCLUSION ?=
# A study: the file params/studies/PLAN.yaml, or an epoch or two of it; the cluster's folder in
# cluster/; the seconds that a job waits for another process.
PLAN ?= small
TINY ?=
PROFILE ?= local
WAIT ?=
# Two finished runs, to be compared.
A ?=
B ?=
# The runs in README's table of results, in this order.
RUNS ?= best as_run as_written cpu

# Options of JupyterLab, such as LAB="--allow-root --no-browser --ip=0.0.0.0" in a container.
LAB ?=
# The jobs of a study that are to be done, RUN@SEED each: `make study` lists them.
JOBS ?=

# What a user gives is data. Make would expand a $(shell ...) in it, and a shell what is pasted into
# a command: so every value is taken as it is written, and commands get it in the environment.
$(if $(findstring :,$(CURDIR)),$(error $(CURDIR): Python cannot import from a folder with ':'; \
	rename it))
GIVEN := RUN SET SEED THREADS RETRAIN UNTIL WEIGHTS LOGITS RECORD PLAN TINY PROFILE WAIT RUNS LAB JOBS
GIVEN += BIN PYTHON TORCH TORCH_INDEX AUTHOR COURSE IMAGES OCCLUSION A B
$(foreach name,$(GIVEN),$(if $(filter command environment,$(firstword $(origin $(name)))),$(eval \
	override $(name) := $$(value $(name)))))
export RUN SET SEED THREADS AUTHOR COURSE UNTIL PLAN PROFILE WAIT RUNS LAB IMAGES A B
# Yes or no: 1 or nothing, or in words.
NO := 0 no false
$(foreach name,RETRAIN WEIGHTS LOGITS RECORD TINY OCCLUSION,$(if $(filter-out $(NO) 1 yes true,$($(name))),$(error \
	$(name) must be 1 or 0)))
on = $(filter-out $(NO),$($1))
# The names of jobs become targets, which have their own syntax.
hash := \#
$(foreach sign,; : | = % $(hash) $$ & < > ` " ' ( ) { } [ ] * ? ~ ! \ / ^,$(if $(findstring \
	$(sign),$(JOBS)),$(error JOBS must be names of jobs, RUN@SEED each)))
# A text as one word of a shell.
quote = '$(subst ','\'',$1)'

VENV := .venv
ifeq ($(origin BIN),override)
OWN_BIN := yes
else
BIN := $(VENV)/bin
endif
# Systems have a python3 and often no python.
PY_NAME := python$(if $(OWN_BIN),$(shell test -x $(call quote,$(BIN)/python) || echo 3))
PY = $(call quote,$(BIN)/$(PY_NAME))
BUNDLE = $(PY) -m bundle
# The versions that the locked packages support, and the first Python of these here; PYTHON=...
# overrides.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3.14 python3; do \
	$$p -c '$(SUPPORTED)' >/dev/null 2>&1 && echo $$p && break; done)
# PyTorch's build: cuda, or cpu, which is smaller; what is installed stays until another is named.
TORCH ?= $(if $(wildcard $(VENV)/.installed-*-cpu),cpu,cuda)
TORCH_INDEX ?=
export TORCH_INDEX
$(if $(filter-out cuda cpu,$(TORCH)),$(error TORCH must be cuda or cpu))
# Setup is up to date by the content of what it installs, not by file times.
LOCK := $(shell cat requirements.txt pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)
READY := $(VENV)/.installed-$(LOCK)$(if $(filter cpu,$(TORCH)),-cpu)
# What notebook 08 needs besides, in the same environment: optional.
DEPLOY_LOCK := $(shell cksum requirements-deploy.txt 2>/dev/null | cut -d' ' -f1)
DEPLOY_READY := $(VENV)/.deploy-$(DEPLOY_LOCK)
# BIN=/path/to/bin takes the Python there with the packages it has, and installs nothing: a
# container, a cluster's module.
ifdef OWN_BIN
READY :=
DEPLOY_READY :=
$(if $(shell test -x $(PY) && echo yes),,$(error BIN=$(BIN): no python there; name its folder))
endif
# In a copy of this folder the environment still points to the first: the code here comes first.
export PYTHONPATH := $(CURDIR)$(if $(value PYTHONPATH),:$(value PYTHONPATH))
# The engine of `make study-cluster`, in an environment of its own.
CLUSTER := .venv-cluster
CLUSTER_LOCK := $(shell cksum requirements-cluster.txt 2>/dev/null | cut -d' ' -f1)
CLUSTER_READY := $(CLUSTER)/.installed-$(CLUSTER_LOCK)
# What every command about a run takes, and `study` about a plan.
WHICH = --set="$$SET" --seed="$$SEED" --threads="$$THREADS" --author="$$AUTHOR" \
	--course="$$COURSE" -- "$$RUN"
TRY = $(if $(call on,TINY),--tiny)
# The command that an error or an interrupted run names to go on with.
export BUNDLE_COMMAND = make run-all RUN=$(RUN)$(if $(SET), SET="$(SET)")$(if \
	$(SEED), SEED=$(SEED))$(if $(THREADS), THREADS=$(THREADS))$(if \
	$(AUTHOR), AUTHOR="$(AUTHOR)")$(if \
	$(COURSE), COURSE="$(COURSE)")$(if $(call on,RETRAIN), RETRAIN=1)$(if $(UNTIL), UNTIL=$(UNTIL))
# A site's own index stays; where to install to does not.
PIP = env -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT -u PIP_CONSTRAINT -u PIP_DRY_RUN PIP_USER=0 \
	PYTHONPATH=
GIT = env -u GIT_DIR -u GIT_WORK_TREE -u GIT_INDEX_FILE git
INSTALL = -m pip install --quiet --disable-pip-version-check
# Two tests at a time; the tests of a file stay together, for they share what is made once.
PYTEST = $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup setup-cluster setup-deploy data run-all status predict verify release release-render study \
	study-jobs study-cluster release-study claims bench bench-readme readme html pdf demo lab check test \
	test-hostile test-cluster lint strip lock clean \
	compare

help:
	@echo 'make run-all    # 3 to 15 minutes; ends with results/quick/report.html'
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

##@ Start: [RUN=quick] [SEED=3] [THREADS=8] [SET="03_train.epochs=2"] [RETRAIN=1]

run-all: setup ## notebooks, pages, report (AUTHOR="A. Name" COURSE=...)
	@$(BUNDLE) run --until="$$UNTIL" $(if $(call on,RETRAIN),--retrain) $(WHICH)

status: setup ## what a run reached; which notebooks are up to date
	@$(BUNDLE) status $(WHICH)

data: setup ## find CIFAR-10, or fetch it into data/ (170 MB, verified; resumes)
	@$(BUNDLE) data

lab: setup ## open the notebooks in JupyterLab
	@env -u JUPYTER_PATH JUPYTER_PREFER_ENV_PATH=1 OMP_DYNAMIC=false \
		OMP_WAIT_POLICY="$${OMP_WAIT_POLICY:-passive}" \
		$(PY) -m jupyterlab --notebook-dir=. $$LAB notebooks

##@ Results: [RUN=quick]

html: setup ## render the pages of a run and the index again
	@$(BUNDLE) pages -- "$$RUN"

pdf: setup ## print the report to PDF (needs Chromium or Chrome)
	@$(BUNDLE) pages --pdf -- "$$RUN"

demo: setup ## the network in a page: classifies your pictures, offline
	@$(BUNDLE) demo -- "$$RUN"

predict: setup ## pictures of your own: IMAGES=folder ([OCCLUSION=1])
	@$(BUNDLE) predict $(if $(call on,OCCLUSION),--occlusion) -- "$$RUN" "$$IMAGES"

compare: setup ## two finished runs side by side (A=cpu B=cpu-seed43)
	@$(BUNDLE) compare -- "$$A" "$$B"

verify: setup ## train a finished run again; compare bit for bit
	@$(BUNDLE) verify $(WHICH)

release: setup ## keep a run in results/released/ ([WEIGHTS=1] [LOGITS=1] [RECORD=1])
	@$(BUNDLE) release $(if $(call on,WEIGHTS),--weights) $(if $(call on,LOGITS),--logits) \
		$(if $(call on,RECORD),--record) $(WHICH)

release-render: setup ## render what is released anew, from its records
	@$(BUNDLE) render
##@ Studies: [PLAN=small] [TINY=1]; make -j2 trains two at a time

study: setup ## train a plan's runs and seeds, compare them
	@jobs=$$($(BUNDLE) study $(TRY) -- jobs "$$PLAN") || exit $$?; \
	$(MAKE) --no-print-directory --keep-going study-jobs JOBS="$$jobs"; code=$$?; \
	$(BUNDLE) study $(TRY) -- collect "$$PLAN" && exit $$code

study-jobs: $(addprefix study-job/,$(JOBS))

study-job/%: export JOB = $*
study-job/%:
	@$(BUNDLE) study $(TRY) --wait="$${WAIT:-0}" -- job "$$PLAN" "$$JOB"

release-study: setup ## keep the page of a plan in results/released/
	@case "$$PLAN" in *[!A-Za-z0-9_.-]*|.*|"") echo "error: PLAN must name a plan" >&2; exit 2;; esac
	@test -f "results/studies/$$PLAN/study.html" || { echo \
		"error: results/studies/$$PLAN: no page yet; make study PLAN=$$PLAN" >&2; exit 2; }
	@$(BUNDLE) seal --check "results/studies/$$PLAN"
	@fresh="results/released/.study-$$PLAN" kept="results/released/studies/$$PLAN"; \
		rm -rf "$$fresh" && mkdir -p results/released/studies && \
		cp -r "results/studies/$$PLAN" "$$fresh" && rm -rf "$$kept" && mv "$$fresh" "$$kept"
	@$(BUNDLE) render "studies/$$PLAN"

study-cluster: setup ## on a cluster (PROFILE=slurm, kubernetes, local)
	@$(BUNDLE) cluster $(TRY) --profile="$$PROFILE" --check -- "$$PLAN"
	@$(MAKE) --no-print-directory setup-cluster
	@$(BUNDLE) cluster $(TRY) --profile="$$PROFILE" -- "$$PLAN"

setup-cluster: $(CLUSTER_READY) ## its engine (done when needed)

$(CLUSTER_READY): requirements-cluster.txt
	@test -x $(CLUSTER)/bin/python || $(call quote,$(PYTHON)) -m venv $(CLUSTER)
	@echo "installing Snakemake into $(CLUSTER) (some 400 MB, a minute; once)"
	@$(PIP) $(CLUSTER)/bin/python $(INSTALL) --require-hashes -r requirements-cluster.txt
	@rm -f $(CLUSTER)/.installed-*; touch $@

setup-deploy: setup $(DEPLOY_READY) ## what notebook 08 needs: onnx, onnxruntime (some 200 MB)

$(DEPLOY_READY): requirements-deploy.txt | $(READY)
	@echo "installing onnx, onnxscript and onnxruntime into $(VENV); then: make run-all"
	@$(PIP) $(PY) $(INSTALL) --require-hashes -r requirements-deploy.txt
	@rm -f $(VENV)/.deploy-*; touch $@

claims: setup ## judge the reference report's claims: results/claims.html
	@$(BUNDLE) claims

bench: setup ## measure speed and memory (10 to 45 minutes)
	@$(PY) -m benchmarks.run

##@ Maintenance: check before a commit

check: lint ## lint, house rule and fast tests (2 minutes)
	@$(PYTEST) -m "not slow and not hostile"

test: setup ## run all tests but the hostile (10 to 15 minutes on two cores)
	@$(PYTEST) -m "not hostile"

test-hostile: setup ## all damaged files, malformed inputs and kills (about half an hour)
	@$(PYTEST) -m hostile

test-cluster: setup setup-cluster ## a study on a real Slurm (Debian, as root)
	@$(PY) -m pytest tests/cluster/slurm.py

lint: setup ## check code, types and notebooks
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

strip: setup ## take outputs and what editors wrote out of the notebooks
	@$(BUNDLE) strip

readme: setup ## write the generated parts of README.md and docs/
	@$(BUNDLE) readme -- "$$RUNS"

bench-readme: setup ## keep what bench measured, in docs/speed.md
	@$(PY) -m benchmarks.readme

setup: $(READY) ## install the locked packages ([PYTHON=python3.13] [TORCH=cpu])

$(READY): requirements.txt pyproject.toml
	@test -n $(call quote,$(PYTHON)) || { echo "error: no Python 3.11 to 3.14 found; install one," \
		"or: make setup PYTHON=/path/to/python3.13" >&2; exit 2; }
	@$(call quote,$(PYTHON)) -c '$(SUPPORTED)' 2>/dev/null || { echo "error: PYTHON="$(call \
		quote,$(PYTHON))": no Python 3.11 to 3.14; nothing was changed" >&2; exit 2; }
	@PYTHONPATH= $(call quote,$(PYTHON)) -P bundle/install.py --torch=$(TORCH) $(VENV)
	@rm -f $(VENV)/.installed-*; touch $@

lock: setup ## compile requirements.txt from .in anew (needs uv)
	@for name in requirements requirements-cluster requirements-deploy; do \
		uv pip compile --universal --python-version 3.11 --generate-hashes --no-header $$name.in \
		-o $$name.txt || exit; done
	@grep -E '^torch(vision)?==' requirements.in | sed 's/$$/+cpu/' | uv pip compile - --universal \
		--python-version 3.11 --generate-hashes --no-header --no-deps --no-annotate \
		--index-url "$${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" -o requirements-cpu.txt

clean: ## remove what runs left in results/, nothing committed
	@if $(PY) -c 'import filelock' 2>/dev/null; then $(BUNDLE) clean; \
	elif $(GIT) rev-parse --is-inside-work-tree >/dev/null 2>&1; then $(GIT) clean -fdX results; else \
		find results -mindepth 1 -maxdepth 1 ! -name released ! -name README.md -exec rm -rf {} +; fi
