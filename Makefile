# make run: the main job · make test: the tests · make docs: the docs site · make setup: the environment alone
.PHONY: setup run test lint exporting deps settings docs
.DEFAULT_GOAL := run

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
# Stages are run by DVC as `python`: the environment's must be the first on PATH.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Where the home folder cannot be written, git, DVC and the libraries keep their files here.
export HOME := $(shell if [ -w "$$HOME" ]; then echo "$$HOME"; else mkdir -p .home && cd .home && pwd; fi)

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "pointcover needs Python 3.11 or newer, got `$(PYTHON) --version`: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --requirement requirements.lock
	pip install --quiet --no-deps --editable .
	@git config user.email >/dev/null || \
	  echo "Note: git has no identity here, which 'dvc exp run' needs: git config user.name NAME; git config user.email ADDRESS"
	@touch $@

run: setup
	dvc repro
	@PYTHONPATH=src python -m pointcover.cli.report

WANTED := $(if $(SLOW),not alone,not slow)

# Compiled code is kept, whatever the environment says: tests start many processes.
test exporting: export PYTHONDONTWRITEBYTECODE :=

test: setup
	@$(MAKE) --no-print-directory --jobs 2 lint exporting
	pytest --numprocesses auto --dist loadfile -m "$(WANTED)" --ignore tests/models/test_export.py
	$(if $(SLOW),pytest -m alone)

lint: setup
	ruff check .
	ruff format --check .
	mypy

# ONNX engines in a process of their own: after them others crashed, at a fork for one.
exporting: setup
	pytest -m "$(WANTED)" tests/models/test_export.py

# The code that each stage depends on, into dvc.yaml.
deps: setup
	python tools/deps.py

# The comments of params.yaml and params.schema.json, from the classes that declare the settings.
settings: setup
	python tools/settings.py

# Into site/, with no network. --strict: a dead link, anchor or reference fails; --quiet would hide them from it.
docs: setup
	PYTHONPATH=src NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "site/ is built; to read it: python -m http.server --directory site"
