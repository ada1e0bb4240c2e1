# make run: the main job · make test: the tests · make docs: the docs site · make setup: the environment alone
.PHONY: setup run test lint exporting deps settings docs
.DEFAULT_GOAL := run

PYTHON ?= python3
VENV := .venv
# Where uv is installed, it brings torch for this machine's GPU, or without CUDA (2.4 GB less).
UV := $(shell command -v uv 2>/dev/null)
UV_TORCH_BACKEND ?= auto
ifeq ($(UV_TORCH_BACKEND),)
unexport UV_TORCH_BACKEND
else
export UV_TORCH_BACKEND
endif
READY := $(VENV)/.ready
# DVC runs stages as `python`: the environment's must be the first on PATH.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# If the home folder is not writable, git, DVC and the libraries write their files below .home.
export HOME := $(shell if [ -w "$$HOME" ]; then echo "$$HOME"; else mkdir -p .home && cd .home && pwd; fi)

setup: $(READY)

$(READY): requirements.lock requirements-cuda.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "pointcover needs Python 3.11 or newer, got `$(PYTHON) --version`: make PYTHON=python3.12"; exit 1; }
ifdef UV
	uv venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	uv pip install --quiet --python $(VENV)/bin/python --requirement requirements.lock
	uv pip install --quiet --python $(VENV)/bin/python --no-deps --editable .
else
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --requirement requirements.lock --requirement requirements-cuda.lock
	pip install --quiet --no-deps --editable .
endif
	@git config user.email >/dev/null || \
	  echo "Note: git has no identity here, which 'dvc exp run' needs: git config user.name NAME; git config user.email ADDRESS"
	@touch $@

run: setup
	dvc repro
	@PYTHONPATH=src python -m pointcover report

WANTED := $(if $(SLOW),not alone,not slow)

# Bytecode is always cached, since tests start many processes.
test exporting: export PYTHONDONTWRITEBYTECODE :=

test: setup
	@$(MAKE) --no-print-directory --jobs 2 lint exporting
	pytest --numprocesses auto --dist $(if $(SLOW),loadfile --no-loadscope-reorder,worksteal) -m "$(WANTED)" --ignore tests/models/test_export.py
	$(if $(SLOW),pytest -m alone)

lint: setup
	ruff check .
	ruff format --check .
	mypy

# ONNX engines run in a separate process: later tests in the same process crashed, for example when forking.
exporting: setup
	pytest $(if $(SLOW),--numprocesses auto) -m "$(WANTED)" tests/models/test_export.py

# Write the code that each stage depends on into dvc.yaml.
deps: setup
	python tools/deps.py

# Write the comments of params.yaml, and params.schema.json, from the settings classes.
settings: setup
	python tools/settings.py

# Build the site into site/, without network. --strict fails on dead links, anchors and references; --quiet would hide them.
docs: setup
	PYTHONPATH=src NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "site/ is built; to read it: python -m http.server --directory site"
