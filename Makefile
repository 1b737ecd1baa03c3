# Two commands on a machine that has only python3 and make:
#   make demo    set up, curate real footage offline, print the funnel and a page to open
#   make test    set up, run the tests
VENV    := .venv
PYTHON  := $(VENV)/bin/python
STAMP   := $(VENV)/.ready
PYTHON3 ?= python3

.PHONY: demo closed-loop test test-slow setup lint types bench lock wheel clean help

help:
	@echo "make demo | closed-loop | test | test-slow | setup | lint | types | bench | lock | wheel | clean"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON3) -m venv $(VENV)
	$(PYTHON) -m pip install --quiet uv
	$(VENV)/bin/uv pip install --quiet --python $(PYTHON) -r requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(PYTHON) --no-deps -e .
	touch $@

demo: setup
	$(VENV)/bin/clipmill demo

closed-loop: setup
	$(PYTHON) -m pipelines.closed_loop

test: setup
	$(PYTHON) -m pytest -n 2 --dist loadfile

test-slow: setup
	$(PYTHON) -m pytest -m slow

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: setup
	$(VENV)/bin/pyright

bench: setup
	$(PYTHON) -m tests.bench.signals
	$(PYTHON) -m tests.bench.curate
	$(PYTHON) -m tests.bench.startup

# Exact versions of everything, resolved for every supported Python; no index address is written.
lock: setup
	$(VENV)/bin/uv pip compile --universal --python-version 3.11 --all-extras --no-emit-index-url \
	  --no-header --quiet --upgrade pyproject.toml -o requirements.lock

wheel: setup
	$(PYTHON) -m build --wheel --outdir dist .

clean:
	rm -rf $(VENV) dist build *.egg-info demo-out
