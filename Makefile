# Every target works as the first command on a fresh clone: the virtual environment is made on demand.
VENV   ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo "$$p" && break; done)
BIN    := $(VENV)/bin
PYTEST_WORKERS ?= auto
DATA   ?= ../shared/data/detection

.DEFAULT_GOAL := help
.PHONY: help demo run test test-long lint check format bench eval train-toy lock clean

help:  ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: install it, or name it with PYTHON=/path/to/python3.x" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/pyvenv.cfg requirements/runtime.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

demo: $(VENV)/.installed  ## Start everything on embedded parts, send sample calls, print a key (Ctrl-C stops it)
	$(BIN)/trueport demo

run: $(VENV)/.installed  ## Start the server with the settings of the environment
	$(BIN)/trueport serve

test: $(VENV)/.installed-dev  ## Run the test suite
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) -m "not slow"

test-long: $(VENV)/.installed-dev  ## Run the long tests that `make test` leaves out
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev  ## Format check, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## Everything a change has to pass: lint, then the test suite

format: $(VENV)/.installed-dev  ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev  ## CPU per call and added latency through the gateway, against the simulator called directly
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.detection
	$(BIN)/python -m tests.bench.replays

eval: $(VENV)/.installed  ## Measure the detectors on the labelled texts in DATA=, each figure beside its aim (some minutes)
	$(BIN)/python -m trueport.detection.evaluation $(DATA)

train-toy: $(VENV)/.installed-dev  ## Fifty steps of training on a toy (needs torch, onnx and safetensors in the virtual environment)
	@$(BIN)/python -c 'import torch, onnx, safetensors' || { echo "Install what training needs first: $(BIN)/python -m pip install torch onnx safetensors" >&2; exit 1; }
	$(BIN)/python -m pytest -p no:cacheprovider tests/detection/models/test_training.py

lock: $(VENV)/.installed-dev  ## Resolve the lock files again (needs uv)
	uv pip compile --no-strip-extras --universal --python-version 3.11 --generate-hashes --quiet --extra onnx --extra pdf --extra storage --extra triton --group build pyproject.toml -o requirements/image.lock
	uv pip compile --no-strip-extras --universal --python-version 3.11 --generate-hashes --quiet --extra embedded --extra onnx --extra pdf --extra storage --extra triton --group build pyproject.toml -o requirements/runtime.lock
	uv pip compile --no-strip-extras --universal --python-version 3.11 --generate-hashes --quiet --extra embedded --extra onnx --extra pdf --extra storage --extra triton --extra dev --group build pyproject.toml -o requirements/dev.lock

clean:  ## Remove the virtual environment and everything built
	rm -rf $(VENV) ui/dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
