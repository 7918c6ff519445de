# make demo   environment, install, the whole method on the embedded world
# make open   its report in a browser
# make test   environment, install, lint-free tests (make soak: the long ones)
# make bench  what the figures of docs/benchmarks.md come from, side by side on this machine
#             (on a GPU: benchmarks.training_gpu, benchmarks.serving_gpu, benchmarks.detection --device cuda)
# make docs   the documentation as a site, in site/
# make serve  the winner of the last demo, its base and their language packs behind an OpenAI-compatible API
#
# TORCH_INDEX picks torch's build: TORCH_INDEX=https://download.pytorch.org/whl/cpu (small, no GPU needed),
# TORCH_INDEX=https://download.pytorch.org/whl/cu128 (CUDA); empty: what your package index gives.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TORCH_INDEX ?=
TORCH := $(shell grep -E '^torch==' requirements.lock)

.PHONY: demo open test test-fast soak bench docs serve lint clean

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

demo: $(VENV)/.installed
	$(BIN)/sea-ray run experiment=demo

open:
	@test -f runs/demo/report.html || { echo "runs/demo/report.html is not there yet: make demo"; exit 1; }
	@echo "$(CURDIR)/runs/demo/report.html"
	@$(PYTHON) -m webbrowser "file://$(CURDIR)/runs/demo/report.html"

serve: $(VENV)/.installed
	$(BIN)/sea-ray serve run=demo serving.with_base=true

test: $(VENV)/.installed
	$(BIN)/python -m pytest

test-fast: $(VENV)/.installed
	$(BIN)/python -m pytest -m "not ray and not soak"

soak: $(VENV)/.installed
	$(BIN)/python -m pytest -m soak

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.neuron_step
	$(BIN)/python -m benchmarks.training_loop
	$(BIN)/python -m benchmarks.detection
	$(BIN)/python -m benchmarks.corpus
	$(BIN)/python -m benchmarks.sft_stages
	$(BIN)/python -m benchmarks.sweep
	$(BIN)/python -m benchmarks.plan
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.evaluation --rounds 3

docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint requirements.lock --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist site *.egg-info
