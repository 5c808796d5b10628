# ocelot's development and demonstration targets; `make` alone lists them.
# Everything is set up on the way: .venv here, the kernel and unpacked servers in $XDG_CACHE_HOME/ocelot (~/.cache/ocelot).
SHELL := /bin/bash
.DELETE_ON_ERROR:
.NOTPARALLEL:

VENV := .venv
PY := $(VENV)/bin/python
SETUP := integration/lab/setup.sh
CHECKED := ocelot bootstrap supervisor tests integration

# The accelerator of the virtual machines: tcg works everywhere, kvm is faster where /dev/kvm works.
ACCEL ?= tcg
# How many unit tests and virtual machines run at a time.
JOBS ?= 2
# How many integration tests do (each file in one worker): they wait more than they work.
WAITING_JOBS ?= $(shell echo $$(( $(JOBS) * 3 / 2 )))
# Real processes and emulated machines meet deadlines only on a machine that is not too busy: what fails is tried once
# more, and shown at the end with its reason. What fails twice has failed.
RERUN ?= --reruns 1 --rerun-show-tracebacks
# What is said to the benchmark: make bench BENCH=--help lists it.
BENCH ?=
export OCELOT_ACCEL := $(ACCEL)

.PHONY: help boot shell test lint unit integration bench python emulator machine peers lock clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

boot: python emulator ## boot a microVM whose PID 1 is ocelot, look at it, power it off (ACCEL=kvm where it works)
	@$(PY) -m integration.demo

shell: python emulator ## the same microVM with a shell on the console (end it with: exit)
	@$(PY) -m integration.demo --shell

test: lint unit integration ## everything: lint, unit tests, integration tests

lint: python ## ruff, formatting, mypy --strict
	@echo "==> ruff"
	@$(VENV)/bin/ruff check $(CHECKED)
	@$(VENV)/bin/ruff format --check $(CHECKED)
	@echo "==> mypy --strict"
	@$(VENV)/bin/mypy

unit: python ## the unit tests: no real child, clock, mount or socket
	@echo "==> unit tests"
	@$(PY) -m pytest tests -n $(JOBS)

integration: python machine ## the integration tests: real processes, namespaces and virtual machines (JOBS at a time)
	@echo "==> integration tests on this machine, $(WAITING_JOBS) files at a time"
	@$(PY) -m pytest integration -m "not vm" -n $(WAITING_JOBS) --dist loadfile $(RERUN)
	@echo "==> integration tests in virtual machines, $(JOBS) at a time ($(ACCEL))"
	@$(PY) -m pytest integration -m vm -n $(JOBS) $(RERUN)

bench: python machine peers ## size and speed, next to a busybox initramfs, Debian's systemd and other supervisors (BENCH=--help for what can be chosen)
	@$(PY) -m integration.bench $(BENCH)

python: ## the virtual environment .venv
	@$(SETUP) python

peers: ## the supervisors that the benchmark compares with
	@$(SETUP) peers

emulator: ## QEMU, a kernel and a web server: what one virtual machine needs
	@$(SETUP) emulator

machine: ## the same, and what else the tests need
	@$(SETUP) machine

# What both files of pinned packages are made with.
COMPILE = uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
IMAGE_EXTRAS := image schedule lz4 grpc

lock: ## pin the packages of the development and of the image anew (needs uv on the PATH)
	$(COMPILE) --universal --group dev --all-extras pyproject.toml requirements-dev.in -o requirements-dev.txt
	$(COMPILE) --python-platform linux $(IMAGE_EXTRAS:%=--extra %) -c requirements-dev.txt pyproject.toml -o requirements-image.txt
	@sed -i '1i # What a runtime is built from and with, at the versions of requirements-dev.txt (make lock).' requirements-image.txt

clean: ## remove what tests and builds left in the checkout
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(CHECKED) -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## also remove .venv (the cache outside the checkout stays)
	rm -rf $(VENV)
