# `make` lists the targets. GNU make 3.81 or later, as on a Mac.

PROFILE  = demo#       smoke | demo | scratch | paper | paper-code
DATASETS =#            the profile's own when empty; else names, e.g. "dsb-fluo dsb-bf"
FOLDS    =#            the profile's own when empty; else numbers, e.g. "0 1"
METHODS  =#            the profile's own when empty; else names, e.g. "s2l supervised otsu"
SEEDS    =#            0 when empty; else numbers
ANNOTATORS =#          the profile's own when empty; else 0 to 2, attentive-0 to attentive-2, skeleton
ROTATIONS =#           0 when empty; else numbers from 0 to 4: which fifth of the images is tested (0: the paper's)
JOBS     = 2#          runs, or files of tests, at the same time, sharing the cores; on Slurm: in the queue, 100
ON       = local#      or slurm: every run is a job of the cluster (docs/cluster.md)
CORES    =#            of each job there
GPUS     =#            of each job there: 0 or 1
HOURS    =#            that the cluster gives a job; a longer run goes on in the next one
KILLS    = 54#         runs that `make torture` kills; 54 meet every place in every method

# Python 3.11 first: it is the version requirements.lock was made with
PYTHONS = python3.11 python3.12 python3.13 python3.14 python3 python
PYTHON ?= $(shell for p in $(PYTHONS); do \
	"$$p" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
PY = .venv/bin/python

# Paths reach the shell as variables of the environment, never as text, so that each stays one word whatever is in it.
ifneq ($(S2L_DATA),)
export S2L_DATA
# notebooks run in folders of their own, so a relative path is resolved here
WHOLE_DATA = S2L_DATA="$$(cd -- "$$S2L_DATA" >/dev/null 2>&1 && pwd || printf '%s' "$$S2L_DATA")"
endif

# jobs and notebook kernels call `python` by name
IN_VENV = PATH="$$PWD/.venv/bin:$$PATH" $(WHOLE_DATA)
AT_ONCE = $(if $(filter slurm,$(ON)),$(if $(filter command,$(firstword $(origin JOBS))),--jobs $(JOBS)),--cores $(JOBS))
SNAKEMAKE = $(IN_VENV) $(PY) -m snakemake -s workflow/Snakefile --workflow-profile workflow/profiles/$(ON) $(AT_ONCE)
# a line for each run instead of Snakemake's own messages: workflow/snakemake_logger_plugin_s2l
BATCH = PYTHONPATH="workflow$${PYTHONPATH:+:$$PYTHONPATH}" $(SNAKEMAKE) --logger s2l
# Files stay whole, since tests of one share what they made, and those that take longest begin.
TESTS = $(PY) -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder
CLUSTER = $(if $(CORES),cores=$(CORES)) $(if $(GPUS),gpus=$(GPUS)) $(if $(HOURS),hours=$(HOURS))
CONFIG = --config profile=$(PROFILE) $(CLUSTER) $(if $(DATASETS),datasets="$(DATASETS)") $(if $(FOLDS),folds="$(FOLDS)") \
	$(if $(METHODS),methods="$(METHODS)") $(if $(SEEDS),seeds="$(SEEDS)") \
	$(if $(ANNOTATORS),annotators="$(ANNOTATORS)") $(if $(ROTATIONS),rotations="$(ROTATIONS)")

# A misspelled name would start a batch of hours with another choice than was meant. Names that resemble none,
# such as OMP_NUM_THREADS=1, reach the commands as variables of the environment.
KNOWN = PROFILE DATASETS FOLDS METHODS SEEDS ANNOTATORS ROTATIONS JOBS ON CORES GPUS HOURS KILLS PYTHON S2L_DATA
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
WRONG := $(filter-out $(KNOWN) PY PYTHONS MAKEFLAGS SHELL,$(GIVEN))
nearest = $(shell "$(PYTHON)" -c 'import difflib, sys; \
	print(*difflib.get_close_matches(sys.argv[1].upper(), sys.argv[2:], 1, 0.7))' $(1) $(KNOWN))
refuse = $(if $(2),$(error There is no variable $(1). Did you mean $(2)? Choose one of: $(KNOWN)))
$(foreach name,$(WRONG),$(call refuse,$(name),$(call nearest,$(name))))

.PHONY: help install reproduce readings dry-run verify bench bench-full test test-long test-quick test-slurm torture lab lint format data site clean

help: ## list the targets
	@echo "make reproduce runs the paper's comparison; make test checks the code."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'
	@echo
	@echo 'Variables: PROFILE=demo DATASETS="..." FOLDS="..." METHODS="..." SEEDS="..." ANNOTATORS="..." ROTATIONS="..." JOBS=2 S2L_DATA=folder PYTHON=python3.11'
	@echo 'On Slurm:  ON=slurm CORES=4 GPUS=1 HOURS=24 (docs/cluster.md)'
	@echo 'Example:   make reproduce PROFILE=scratch DATASETS=dsb-fluo FOLDS=0 S2L_DATA=~/data JOBS=1'

install: .venv/.installed ## install the locked versions and this package into .venv (other targets do it when needed)

reproduce: .venv/.installed ## run the missing runs of a profile and print Table 1 (demo: minutes, no data needed)
	$(BATCH) $(CONFIG)
	$(PY) -m s2l_paper tables $(PROFILE)

readings: .venv/.installed ## run the missing runs of notebook 09: each reading of the paper varied alone, and budgets
	$(BATCH) --config profile=$(PROFILE) $(CLUSTER) readings=1

dry-run: .venv/.installed ## list the runs that `make reproduce` would make
	$(SNAKEMAKE) --dry-run --quiet host reason $(CONFIG)

verify: .venv/.installed ## compute every committed number anew from the runs' scores; needs no data
	$(PY) -m s2l_paper verify

test: .venv/.installed ## run the tests, but the long ones: ten minutes on two cores; those on real images need S2L_DATA
	$(IN_VENV) $(TESTS) --durations=10 -m "not long"

test-long: .venv/.installed ## run the others: whole batches, sessions in a browser, the site, benchmarks
	$(IN_VENV) $(TESTS) --durations=10 -m long

test-quick: .venv/.installed ## run the tests of the method alone: at most two minutes on two cores
	$(IN_VENV) $(TESTS) -m "not long" tests/core

test-slurm: .venv/.installed ## run profile smoke on a real Slurm of its own (Linux, root, slurm-wlm, munge); writes docs/faults.md
	$(IN_VENV) PYTHONPATH=tests $(PY) -m slurm

torture: .venv/.installed ## harm KILLS small runs, batches, 20,000 files, every stroke and a large folder; writes docs/faults.md (over an hour)
	$(IN_VENV) PYTHONPATH=tests $(PY) -m torture --kills $(KILLS)

lab: .venv/.installed ## open the notebooks in JupyterLab
	$(IN_VENV) $(PY) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

lint: .venv/.installed ## check code and notebooks: layout, direction of imports, dependencies, types of the core
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	@.venv/bin/lint-imports
	@.venv/bin/deptry --no-ansi .
	$(PY) -m mypy

format: .venv/.installed ## fix the layout of code and notebooks, and empty the notebooks
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(PY) -m nbstripout --keep-id notebooks/*.ipynb

data: .venv/.installed ## fetch BBBC038 and MoNuSeg into S2L_DATA (default data/raw)
	$(PY) -m s2l_paper data

bench: .venv/.installed ## measure speed and memory against naive implementations, on an idle machine; writes benchmarks/
	$(IN_VENV) $(PY) -m benchmarks

bench-full: .venv/.installed ## the long rows of the same
	$(IN_VENV) $(PY) -m benchmarks --scale full

site: .venv/.installed ## build the pages of docs/_build/html from README, executed notebooks and docstrings, offline
	$(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean: ## remove caches and the results of smoke and demo; never data or committed results
	rm -rf results/smoke figures/smoke results/demo figures/demo .snakemake .pytest_cache .ruff_cache .hypothesis
	find . \( -path ./.venv -o -path ./.git -o -path ./data \) -prune -o \
		\( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# the stamp is written last: an interrupted installation is continued by the next call
.venv/.installed: requirements.lock pyproject.toml
	@if ! $(PY) -m pip --version >/dev/null 2>&1; then \
		if [ -z "$(PYTHON)" ]; then \
			echo "No Python was found that is 3.11 or later and can make virtual environments (tried: $(PYTHONS))."; \
			echo "Install one (on Debian or Ubuntu: python3-venv as well), or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; \
			exit 1; \
		fi; \
		echo "making .venv with $$("$(PYTHON)" --version) ($(PYTHON))"; \
		"$(PYTHON)" -m venv .venv; \
	fi
	@echo "installing the versions of requirements.lock into .venv: about 6 GB with PyTorch and CUDA on Linux, less on a Mac; a few minutes"
	@$(PY) -m pip install -q --progress-bar off --disable-pip-version-check -r requirements.lock
	@$(PY) -m pip install -q --progress-bar off --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "installed"
