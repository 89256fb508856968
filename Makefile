# Two commands do all: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo stories results museum test test-all lint bench clean

demo: $(VENV)/.core
	$(BIN)/lowerbound demo

# two processes, each with whole files: what a file prepares once it prepares in one of them
test: $(VENV)/.dev lint
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/.dev lint
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m ""

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

stories: $(VENV)/.core
	$(BIN)/python examples/stories

results: $(VENV)/.core
	$(BIN)/python benchmarks/results.py
	$(BIN)/python benchmarks/equal_time.py
	$(BIN)/python benchmarks/modalities.py
	$(BIN)/python benchmarks/sequences.py

# every known bug, made again, is noticed by a test
museum: $(VENV)/.dev
	$(BIN)/python tests/museum

# side by side with Pythae and JAX, which live in an environment of their own
bench: $(VENV)/.core .venv-peers/.made
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/nll.py
	$(BIN)/python benchmarks/costs.py
	$(BIN)/python benchmarks/start_up.py
	$(BIN)/python benchmarks/convolutions.py

.venv-peers/.made: benchmarks/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --requirement benchmarks/peers.txt
	touch $@

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[dev]"
	touch $@ $(VENV)/.core
