# Everything a newcomer or CI runs. Needs Python 3.11 and make; the rest goes into .venv.
PYTHON ?= python3.11
RUN := .venv/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
RECIPE ?= mnist-mlp
NOTEBOOK ?= client/tour.ipynb
RULE := deploy/kubernetes/components/monitoring/prometheusrule.yaml
COMPILE := .venv/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command 'make requirements' --constraint constraints.txt
# onnxruntime requires these two, but only its tools import them.
NOT_IMPORTED := --no-emit-package flatbuffers --no-emit-package protobuf
DATA := $(if $(DATA_DIR),--data-dir $(DATA_DIR))

# Hundreds of processes import the same modules: compile them once.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help serve gpu test browser proxies check soak train export bench openapi docs alerts notebook image requirements promtool
.PHONY: test-gpu test-kserve test-ray test-containers release-check clean
.DEFAULT_GOAL := help

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

serve: .venv/serve.stamp ## Serve the models in models/ on VAE_HOST:VAE_PORT (127.0.0.1:8000)
	@exec $(RUN) -m service

test: check ## Check the code and run every test that needs no container, in parallel
	$(RUN) -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

browser: ## Install Chromium for tests/browser, from Debian's packages, if there is none (as root)
	@command -v chromium >/dev/null || { apt-get update && apt-get install --yes chromium; }

proxies: ## Install HAProxy and nginx for tests/e2e and tests/hostile, from Debian's packages, if there are none (as root)
	@command -v haproxy >/dev/null && command -v nginx >/dev/null || { apt-get update && apt-get install --yes haproxy nginx; }

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

test-gpu: .venv/dev.stamp ## Test serving and training on an NVIDIA GPU that does nothing else, after make gpu
	REQUIRE_GPU=1 $(RUN) -m pytest tests/gpu

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

docs: .venv/serve.stamp ## Write docs/settings.md anew, after a change of the settings
	$(RUN) -m harness.settings_page > docs/settings.md

alerts: ## Write the rules of deploy/monitoring/alerts.yml into Kubernetes' PrometheusRule, after a change of them
	@{ sed '/^spec:/q' $(RULE); sed 's/^./  &/' deploy/monitoring/alerts.yml; } > $(RULE).new && mv $(RULE).new $(RULE)

notebook: .venv/dev.stamp ## Run client/tour.ipynb with a service of its own; it is written to NOTEBOOK, by default in its place
	$(RUN) -m harness.notebook client/tour.ipynb $(NOTEBOOK)

test-kserve: .venv/dev.stamp .kserve/made.stamp ## Run KServe's own client against the service; it has an environment of its own (260 MB)
	REQUIRE_KSERVE=1 $(RUN) -m pytest tests/e2e/test_kserve.py

test-ray: .venv/dev.stamp .ray/made.stamp ## Run the service on a Ray cluster of two nodes; Ray has an environment of its own (610 MB)
	REQUIRE_RAY=1 $(RUN) -m pytest tests/ray

image: .venv/serve.stamp ## Build the image, with its version and commit in its labels; ARGS=vae-gpu: the one for GPUs
	VERSION=$$($(RUN) -c "from importlib.metadata import version; print(version('vae-service'))") \
	REVISION=$$(git describe --always --dirty --abbrev=40 --exclude '*') \
	docker compose build $(or $(ARGS),vae)

requirements: .venv/uv/bin/uv ## Write deploy/image/*.txt anew, after a change of constraints.txt
	$(COMPILE) pyproject.toml $(NOT_IMPORTED) --output-file deploy/image/cpu.txt
	$(COMPILE) pyproject.toml $(NOT_IMPORTED) --extra gpu --no-emit-package onnxruntime --output-file deploy/image/gpu.txt
	echo setuptools | $(COMPILE) - --output-file deploy/image/build.txt

promtool: .venv/bin/python ## Unpack Prometheus' promtool from Debian's package into .venv/bin, if there is none
	@command -v promtool >/dev/null || [ -x .venv/bin/promtool ] || { folder=$$(mktemp -d) && cd $$folder && \
	apt-get -qq update && apt-get -qq --option APT::Sandbox::User=root download prometheus && \
	dpkg-deb --extract prometheus_*.deb . && mv usr/bin/promtool $(CURDIR)/.venv/bin/ && rm -r $$folder; }

test-containers: .venv/dev.stamp ## Build the image and test it with compose and Prometheus on a real engine
	$(RUN) -m pytest --verbose tests/containers

release-check: .venv/dev.stamp ## Check that this commit can be released, and write what goes out into dist/: docs/release.md
	$(RUN) -m release

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

.venv/uv/bin/uv: constraints.txt | .venv/bin/python
	$(PYTHON) -m venv .venv/uv
	.venv/uv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@touch $@

.venv/serve.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing what the service needs into .venv (once) ..."
	$(PIP) --editable .
	@touch $@

.venv/dev.stamp: pyproject.toml client/pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing what training and the tests need into .venv (once) ..."
	$(PIP) --editable '.[training,test,bench,tracing]' --editable ./client
	@touch .venv/serve.stamp $@
