# SPDX-License-Identifier: Apache-2.0
PREFIX ?= /usr/local
DESTDIR ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run demo test lint check bench bench-analysis bench-hardware chaos fuzz soak install uninstall lock messages tables manifest image vm-test

ANALYSIS := bench/analysis.py bench/comparing.py bench/blame.py bench/interference.py

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Set up, trace this node for 10 s, and say who slowed down whom
	@scripts/setup run
	@scripts/as-root .venv/bin/tracer run --duration 10s --output results --report

demo: ## Set up, and let two small containers compete for a CPU: what it looks like where something is wrong
	@scripts/setup run
	@scripts/as-root .venv/bin/tracer demo

test: ## Set up and run all tests, warnings being errors (what needs root through sudo)
	@scripts/setup dev
	@scripts/test

fuzz: ## Give a million damaged inputs to all that reads bytes from outside; prints a table (20 minutes)
	@scripts/setup dev
	.venv/bin/python tests/fuzz.py
	.venv/bin/python tests/fuzz_recordings.py 0 200

chaos: ## Kill 200 tracers, and a store and a recovery at each of their system calls; prints a table (an hour)
	@scripts/setup dev
	@scripts/as-root .venv/bin/pytest -s -p no:cacheprovider tests/chaos --kills 200

soak: ## Trace for half an hour under a load that never rests: what rises, what is lost, what is left
	@scripts/setup dev
	@scripts/as-root .venv/bin/python bench/soak.py

vm-test: ## Run the tests on other kernels and nodes, in guests (up to an hour); writes docs/kernels.md
	@scripts/setup dev
	@scripts/as-root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends buildah
	@scripts/as-root .venv/bin/pytest -p no:cacheprovider tests/matrix

lint: ## Check format, style and types
	@scripts/setup dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

check: lint test ## Everything that must pass before a commit

bench-analysis: ## Hold report, compare and waits to the truth of simulated runs; prints tables (an hour)
	@scripts/setup dev
	@status=0; for bench in $(ANALYSIS); do echo "== $$bench"; OPENBLAS_NUM_THREADS=1 .venv/bin/python "$$bench" || status=1; done; exit $$status

bench-hardware: ## Hold report to what real caches and memory cost on this machine; prints a table (10 minutes)
	@scripts/setup dev
	@scripts/as-root .venv/bin/python bench/hardware.py

bench: ## Run each speed promise; prints ratios
	@scripts/setup dev
	@for bench in $(filter-out $(ANALYSIS) bench/hardware.py $(wildcard bench/*soak.py),$(wildcard bench/[a-z]*.py)); do echo "== $$bench"; scripts/as-root .venv/bin/python "$$bench" || exit; done

install: ## Put `tracer` on the PATH, with an environment in PREFIX/lib/tracer (PREFIX=/usr/local; needs root)
	@scripts/install "$(PREFIX)" "$(DESTDIR)"

uninstall: ## Remove what `make install` put there
	@scripts/uninstall "$(PREFIX)" "$(DESTDIR)"

lock: ## Write the lock files anew after a change of the dependencies in pyproject.toml
	@scripts/setup dev
	@scripts/lock

messages: ## Generate the Python modules of the .proto files
	@scripts/setup dev
	.venv/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. tracer/containers/nri/messages.proto tracer/analysis/perfetto/messages.proto

image: ## Build the container image from Debian's packages, with buildah, into tracer.oci.tar (2 minutes)
	@scripts/setup dev
	@scripts/as-root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends buildah
	@scripts/as-root scripts/image tracer.oci.tar

manifest: ## Write deploy/kubernetes/tracer.yaml anew from the chart
	scripts/manifest >deploy/kubernetes/tracer.yaml.new
	mv deploy/kubernetes/tracer.yaml.new deploy/kubernetes/tracer.yaml

tables: ## Write docs/schemas/ and what docs/tables.md and docs/metrics.md list anew from the types
	@scripts/setup dev
	.venv/bin/python scripts/tables.py
	.venv/bin/python scripts/metrics.py
	.venv/bin/python scripts/schemas.py
