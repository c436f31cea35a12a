# Everything a newcomer or CI runs. Needs Python 3.11 and make; the rest goes into .venv.
PYTHON ?= python3.11
RUN := .venv/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
RECIPE ?= mnist-mlp
NOTEBOOK ?= client/tour.ipynb
DATA := $(if $(DATA_DIR),--data-dir $(DATA_DIR))

.PHONY: help serve gpu test browser check soak train export bench openapi notebook test-kserve test-ray test-containers clean
.DEFAULT_GOAL := help

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

serve: .venv/serve.stamp ## Serve the models in models/ on VAE_HOST:VAE_PORT (127.0.0.1:8000)
	@exec $(RUN) -m service

test: check ## Check the code and run every test that needs no container, in parallel
	$(RUN) -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

browser: ## Install Chromium for tests/browser, from Debian's packages, if there is none (as root)
	@command -v chromium >/dev/null || { apt-get update && apt-get install --yes chromium; }

check: .venv/dev.stamp ## Lint, format, types, import directions
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	.venv/bin/lint-imports

soak: .venv/dev.stamp ## Half an hour of mixed traffic, twice the capacity, and hostile input and connections: docs/reliability.md
	$(RUN) -m tests.soak $(ARGS)
	FUZZ=long $(RUN) -m pytest --timeout 0 --override-ini faulthandler_timeout=0 tests/fuzz tests/e2e/test_faults.py
	HOSTILE_SECONDS=60 $(RUN) -m pytest --timeout 0 --override-ini faulthandler_timeout=0 tests/hostile
	$(RUN) -m tests.hostile

gpu: .venv/serve.stamp ## Put the CUDA build of onnxruntime in its place; then VAE_PROVIDER=cuda make serve
	$(PIP) --editable '.[gpu]'
	$(RUN) -m pip uninstall --quiet --yes onnxruntime onnxruntime-gpu
	$(PIP) --no-deps onnxruntime-gpu

train: .venv/dev.stamp ## Train RECIPE (mnist-mlp) on DATA_DIR (else downloaded), evaluate, export; any option in ARGS
	$(RUN) -m training train --recipe $(RECIPE) $(DATA) $(ARGS)

export: .venv/dev.stamp ## Evaluate and export RECIPE's finished run again; any option in ARGS
	$(RUN) -m training export runs/$(RECIPE)/checkpoint.pt $(DATA) $(ARGS)

bench: .venv/dev.stamp ## Measure start-up, training, and serving against its limits and other servers (half an hour)
	$(RUN) -m bench.startup
	$(RUN) -m bench.training $(DATA)
	$(RUN) -m bench.serving --json .bench/serving.json

openapi: .venv/serve.stamp ## Write docs/openapi.json anew, after a change of the API
	$(RUN) -c "import json; from service import app, settings; \
	print(json.dumps(app.create_app(settings.Settings()).openapi(), indent=2))" > docs/openapi.json

notebook: .venv/dev.stamp ## Run client/tour.ipynb with a service of its own; it is written to NOTEBOOK, by default in its place
	$(RUN) -m harness.notebook client/tour.ipynb $(NOTEBOOK)

test-kserve: .venv/dev.stamp .kserve/made.stamp ## Run KServe's own client against the service; it has an environment of its own (260 MB)
	REQUIRE_KSERVE=1 $(RUN) -m pytest tests/e2e/test_kserve.py

test-ray: .venv/dev.stamp .ray/made.stamp ## Run the service on a Ray cluster of two nodes; Ray has an environment of its own (610 MB)
	REQUIRE_RAY=1 $(RUN) -m pytest tests/ray

test-containers: .venv/dev.stamp ## Build the image, start it with compose, run the README's curl lines against it
	$(RUN) -m pytest tests/containers

clean: ## Remove .venv, .kserve, .ray and all caches; runs/ and models/ stay
	rm -rf .venv .kserve .ray *.egg-info client/*.egg-info client/build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.kserve/made.stamp: tests/e2e/kserve-requirements.txt
	$(PYTHON) -m venv --clear .kserve
	.kserve/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

.ray/made.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .ray
	.ray/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ray]'
	@touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/serve.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing what the service needs into .venv (once) ..."
	$(PIP) --editable .
	@touch $@

.venv/dev.stamp: pyproject.toml client/pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing what training and the tests need into .venv (once) ..."
	$(PIP) --editable '.[training,test,bench,tracing]' --editable ./client
	@touch .venv/serve.stamp $@
