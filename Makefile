# Every target works on a fresh machine with Python 3.11+ and make: the first one needed makes .venv.
PYTHON ?= python3
BIN := .venv/bin
STUBS ?= proto
CIFAR10_DATA ?= $(firstword $(wildcard ../shared/data data) data)
export CIFAR10_DATA

.PHONY: setup demo check audit test soak bench bench-gpu accuracy serve train up down smoke proto lock

setup: .venv/installed ## make .venv from the locked, hashed requirements

.venv/installed: requirements/dev.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $@

demo: setup ## start the server, classify pictures through the command line, stop
	PYTHONPATH=. $(BIN)/python docs/demo.py

check: setup ## format, lint, types, arrows, contract, drift of the stubs, what is deployed
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports
	$(BIN)/buf lint proto
	$(MAKE) --no-print-directory proto STUBS=.cache/stubs
	diff -r -x '*.proto' -x __pycache__ .cache/stubs/cifarserve proto/cifarserve
	$(BIN)/hadolint Dockerfile && $(BIN)/docker-compose --profile '*' config --quiet
	$(BIN)/kubernetes-validate --strict --quiet --no-warn deploy/kubernetes/base/[!k]*.yaml

audit: setup ## known vulnerabilities of what is locked; asks the package index's database, so it needs a network
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement requirements/dev.txt

test: setup ## every test, with the line coverage of the four packages
	$(BIN)/coverage erase && $(BIN)/coverage run -m pytest --numprocesses 3 --dist loadfile
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report --fail-under=90

soak: setup ## every promise about failures at full length, at most 30 minutes; writes docs/reliability.md
	$(BIN)/python -m pytest tests/reliability --full --verbose --session-timeout=1800
	$(BIN)/python -m tests.reliability.page

bench: setup ## the server against its ceilings, with pictures (needs nghttp2-client)
	$(BIN)/python -m benchmarks.serving && $(BIN)/python -m benchmarks.client
	$(BIN)/python -m benchmarks.curves && $(BIN)/python -m benchmarks.readme

bench-gpu: setup ## the server on a GPU against bare CUDA graphs (needs nghttp2-client)
	$(BIN)/python -m benchmarks.gpu

accuracy: setup ## send the 10,000 test images through a server, print accuracy and images/s
	$(BIN)/python -m benchmarks.accuracy && $(BIN)/python -m benchmarks.accuracy --model quick

serve: setup ## serve the shipped models on 127.0.0.1:50051
	$(BIN)/cifarserve-server

train: setup ## train the default network and publish it in runs/models
	$(BIN)/cifarserve-train --data $(CIFAR10_DATA)

up: ## build and start the containers: the server, and Prometheus
	docker compose up --build --detach --wait

down: ## stop the containers; accepted work is answered first
	docker compose --profile '*' down

smoke: setup ## check real containers under load and through failures; leaves them running
	docker compose --profile training --profile bench build
	COMPOSE_PROFILES=scale docker compose up --build --detach --wait
	deploy/smoke.sh

proto: setup ## generate the stubs
	mkdir -p $(STUBS)
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=$(STUBS) --grpc_python_out=$(STUBS) \
		--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --mypy_out=quiet:$(STUBS) \
		--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet:$(STUBS) \
		proto/cifarserve/v1/classifier.proto proto/cifarserve/v1/admin.proto \
		proto/cifarserve/inference/open_inference.proto

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
LOCK := $(COMPILE) pyproject.toml
lock: setup ## renew requirements/*.txt from pyproject.toml
	$(LOCK) --extra dev --output-file requirements/dev.txt
	$(LOCK) --constraint requirements/dev.txt --output-file requirements/client.txt
	$(LOCK) --constraint requirements/dev.txt --extra server --output-file requirements/server.txt
	$(LOCK) --constraint requirements/dev.txt --extra server --extra tracing --output-file requirements/tracing.txt
	$(LOCK) --constraint requirements/dev.txt --extra training --output-file requirements/training.txt
	$(COMPILE) requirements/interop-triton.in --output-file requirements/interop-triton.txt
	$(COMPILE) requirements/interop-kserve.in --output-file requirements/interop-kserve.txt
