# Everything a newcomer types. `make` lists the targets.
SHELL := /bin/bash
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup peers demo test lint fmt unit contract compat integration netns vm bench bench-dns bench-lb docs dist clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## .venv and the Debian packages that demo and tests use (quick and offline when done)
	@packaging/setup.sh

peers: ## Debian packages of the peers that bench/ compares with
	@packaging/setup.sh peers

demo: setup ## the main job: three hosts, overlay, DNS, templates, load balancer
	@$(BIN)/fairlead demo

test: setup ## all that CI runs, but lint
	@packaging/test.sh

lint: setup ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: setup ## format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

unit: setup ## pure modules: no IO, seconds
	$(PYTEST) tests/unit

contract: setup ## one suite per seam: store in memory, fairlead etcd, real etcd
	$(PYTEST) tests/contract

compat: setup ## golden cases: one per trap of the originals
	$(PYTEST) tests/compat

integration: setup ## real etcd, real processes, faults
	$(PYTEST) tests/integration

netns: setup ## several hosts as network namespaces (root)
	$(PYTEST) tests/netns

vm: setup ## what this kernel lacks: ipip, wireguard, in User-Mode Linux machines (root)
	$(PYTEST) tests/vm

docs: setup ## tables of the documents, from the code
	$(BIN)/python docs/tables.py

bench: setup ## figures beside a peer or the bare client in the same run
	@$(BIN)/python bench

dist: setup ## the wheel, in dist/
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation -w dist .
	@ls dist

bench-lb: setup ## every bar of the load balancer as a ratio beside the peers found (7 minutes)
	$(BIN)/python bench/lb.py; $(BIN)/python bench/lb_bars.py

bench-dns: setup ## every bar of DNS speed as a ratio beside the peers found (10 minutes)
	$(BIN)/python bench/dns.py

clean: ## remove what was built
	rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
