# The bundle's commands; `make help` lists them. Needs git, make, Python 3.10 or newer, and pip.

PYTHON      ?= python3
TORCH_INDEX ?=
DEVICE      ?= cuda
SCALE       ?= paper
JOBS        ?= 1
RUN         ?=
IMAGES      ?=
TESTS       ?=
RAIN        ?=
ONLY        ?=
PDF         ?=
N           ?= 10000

CPU_URL := https://download.pytorch.org/whl/cpu
ifeq ($(CPU_INDEX),1)
TORCH_INDEX := $(CPU_URL)
endif

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed
LOCK_PYTHON := 3.10
LOCK_TORCH  := 2.13.0

# with another index than last time, PyTorch is installed anew even though its version number fits
CHOSEN := $(shell cat $(VENV)/.torch-index 2>/dev/null)
ifneq ($(TORCH_INDEX),)
ifneq ($(TORCH_INDEX),$(CHOSEN))
$(STAMP): FORCE
endif
else
TORCH_INDEX := $(CHOSEN)
endif
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.DEFAULT_GOAL := help
.PHONY: help setup lab reproduce refresh figures docs bench test fuzz paper lint lock clean FORCE

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  Settings, given as NAME=VALUE after the command:"
	@echo "    CPU_INDEX=1        PyTorch's CPU build (on Linux, PyPI's own build brings 3 GB of CUDA libraries)"
	@echo "    TORCH_INDEX=URL    another build, such as https://download.pytorch.org/whl/cu130"
	@echo "    PYTHON=python3.12  the Python that .venv is made with"
	@echo "    IMAGES=DIR         the photographs that make paper trains on"
	@echo "    TESTS=DIR          test images, or a folder of sets by name (default: scikit-image's photographs)"
	@echo "    RAIN=DIR           rain pairs with pairs.csv (default: synthetic rain)"
	@echo "    DEVICE=cuda        where make paper trains; JOBS=4: so many networks at once"
	@echo "    SCALE=smoke        make paper: another scale, as a rehearsal; RUN='--steps 2': more of experiments run"
	@echo "    ONLY='01 03'       the notebooks that make reproduce, figures and refresh execute (default: all)"
	@echo "    PDF=1              make figures: each figure as PDF, too"
	@echo "    N=1000             how many inputs make fuzz tries"

setup: $(STAMP) ## make .venv if missing, and install what pyproject.toml asks for, as pinned in constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PY) -m pip --version >/dev/null 2>&1 || { \
	  command -v $(PYTHON) >/dev/null || { \
	    echo "error: there is no $(PYTHON): install Python 3.10 or newer, or name yours with PYTHON=..."; exit 1; }; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "error: expected Python 3.10 or newer, got $$($(PYTHON) --version 2>&1): name another with PYTHON=python3.12"; \
	    exit 1; }; \
	  echo "making $(VENV) with $$($(PYTHON) --version 2>&1)"; \
	  $(PYTHON) -m venv $(VENV) || { \
	    echo "error: $(VENV) could not be made: on Debian and Ubuntu install python3-venv"; exit 1; }; }
	@if [ "$(TORCH_INDEX)" != "$(CHOSEN)" ]; then $(PY) -m pip uninstall --quiet --yes torch; fi
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PY) -m pip install --quiet --disable-pip-version-check $(INDEX) -c constraints.txt -e '.[notebooks,test]'
	@echo "$(TORCH_INDEX)" > $(VENV)/.torch-index
	@touch $(STAMP)

lab: setup ## open the notebooks in JupyterLab
	$(PY) -m jupyterlab notebooks

REPRODUCE = @$(PY) -m dpo_lib reproduce $(if $(ONLY),--only $(ONLY)) $(if $(filter 1,$(PDF)),--pdf)

reproduce: setup ## execute every notebook into output/, and compare with what is committed
	$(REPRODUCE)

figures: reproduce ## the same, for the figures: PDF=1 makes output/figures/*.pdf, too

refresh: setup ## execute every notebook, and replace the committed figures, tables and outputs
	$(REPRODUCE) --refresh

docs: setup ## build the book into output/book (the first time installs Sphinx); warnings are errors
	@$(PY) -c "import myst_nb, numpydoc, pydata_sphinx_theme" 2>/dev/null || \
	  $(PY) -m pip install --quiet --disable-pip-version-check $(INDEX) -c constraints.txt -e '.[notebooks,docs]'
	$(PY) -m sphinx -W -n --keep-going -q -j auto -c docs . output/book
	@echo "the book is output/book/index.html"

bench: setup ## time operators and networks beside their peers, a quarter of an hour; rows go to output/bench
	$(PY) benchmarks/operators.py --repeats 3 --out output/bench/operators.csv
	$(PY) benchmarks/inference.py --out output/bench/inference.csv

test: setup ## unit tests, doctests, papermill runs and strict notebook comparison
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadscope --no-loadscope-reorder --durations=40
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --nbval notebooks

fuzz: setup ## try N inputs of every kind at the public door (default: 10000), other ones each time
	FUZZ=$(N) OMP_NUM_THREADS=1 $(PY) -m pytest -q tests/fuzz -p no:cacheprovider

paper: setup ## train every table's networks at the paper's scale on a GPU, resuming what was begun: IMAGES=DIR
	@test -n "$(IMAGES)" || { \
	  echo "error: expected a folder of training photographs, got none: make paper IMAGES=DIR (PASCAL VOC 2012, 2 GB:"; \
	  echo "  $(PY) -c \"from dpo_lib.data import fetch_dataset; print(fetch_dataset('voc2012'))\" fetches it and names its folder)"; \
	  exit 1; }
	@failed=0; \
	$(PY) -m dpo_lib experiments run "*" --scale $(SCALE) --device $(DEVICE) --jobs $(JOBS) --images "$(abspath $(IMAGES))" \
	  $(if $(TESTS),--tests "$(abspath $(TESTS))") $(if $(RAIN),--rain "$(abspath $(RAIN))") $(RUN) || failed=$$?; \
	[ $$failed -le 1 ] || exit $$failed; \
	$(PY) -m dpo_lib experiments collect --scale $(SCALE) || failed=1; \
	$(PY) -m dpo_lib reproduce --scale $(SCALE) --train --device $(DEVICE) -p images "$(abspath $(IMAGES))" \
	  $(if $(ONLY),--only $(ONLY)) || failed=1; \
	exit $$failed

lint: setup ## check style, format, types, and which module may import which
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q --no-header -p no:cacheprovider tests/test_architecture.py

lock: setup ## resolve pyproject.toml into constraints.txt anew (one lock for CPU and CUDA machines)
	@$(PY) -m pip install --quiet -c constraints.txt uv
	@echo "torch==$(LOCK_TORCH)" > $(VENV)/pins.in
	$(PY) -m uv pip compile pyproject.toml --all-extras --universal --python-version $(LOCK_PYTHON) \
	  -c $(VENV)/pins.in --no-annotate --no-header --quiet -o constraints.txt

clean: ## remove caches, build outputs and what make reproduce made (not .venv, weights, results or trainings)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache docs/reference output/book output/figures output/notebooks output/results test-artifacts
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -print0 | xargs -0 rm -rf

FORCE:
