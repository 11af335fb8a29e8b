# make demo, make test: on a fresh Debian 12 or Ubuntu 24.04 they install what they need first. Started by root they do
# everything as an unprivileged user (tools/prepare). The targets with a dot are their second halves, on a ready machine.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Never a python of pyenv or conda: the unprivileged user must be able to execute it.
SYSTEM_PYTHON := /usr/bin/python3
VENV := .venv
PYTHON := $(VENV)/bin/python3
PIP := umask 022 && PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip install --quiet
LOWLEVEL := $(wildcard rootless/_lowlevel/*.c rootless/_lowlevel/*.h rootless/_lowlevel/build*.py) setup.py
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 2 ? 2 : n > 8 ? 8 : n)))

.PHONY: help build demo test test-quick test-binary bench lint binary core-asan clean .demo .test .test-quick .test-binary .bench

help:
	@echo 'make demo        install what a run needs, show a container'
	@echo 'make test        install what the tests need, run them all (as CI does)'
	@echo 'make test-quick  the unit tests only'
	@echo 'make test-binary the end-to-end tests on dist/rl'
	@echo 'make build       .venv/bin/rl'
	@echo 'make binary      dist/rl, one file'
	@echo 'make bench       bench/RESULTS.md: rl against podman'
	@echo 'make lint        types and style; make core-asan: the C core under the sanitizers; make clean'

demo test test-quick test-binary bench:
	@tools/prepare $@

# ---- build: in place; the Python sources are used where they lie

build: $(VENV)/.compiled
	@umask 022 && $(PYTHON) -m compileall -q rootless

$(VENV)/.made: tools/packages
	@tools/packages build
	umask 022 && $(SYSTEM_PYTHON) -m venv $(VENV)
	$(PIP) 'setuptools>=64' 'cffi>=1.15'
	@touch $@

# A line in a .pth file is all that an editable install is; pip would compile everything in a tree of its own first.
$(VENV)/.installed: $(VENV)/.made pyproject.toml tools/launcher tools/requirements
	$(PIP) $$($(PYTHON) tools/requirements)
	@umask 022 && echo "$(CURDIR)" >$$(echo $(VENV)/lib/python3.*/site-packages)/rootless.pth
	@umask 022 && $(PYTHON) tools/launcher $(PYTHON) . $(VENV)/bin/rl
	@touch $@

$(VENV)/.compiled: $(VENV)/.installed $(LOWLEVEL)
	umask 022 && rm -f rootless/_lowlevel/*.so && $(PYTHON) -W ignore setup.py --quiet build_ext --inplace
	@touch $@

$(VENV)/.test $(VENV)/.binary: $(VENV)/.%: $(VENV)/.installed
	$(PIP) $$($(PYTHON) tools/requirements $*)
	@touch $@

# ---- on a ready machine

.demo: build
	@tools/as-user tools/demo $(VENV)/bin/rl

.test: build $(VENV)/.test
	@tools/as-user $(PYTHON) -m pytest -n $(WORKERS) $(PYTEST)

.test-quick: build $(VENV)/.test
	@tools/as-user $(PYTHON) -m pytest -q tests/unit tests/test_layers.py tests/test_startup.py $(PYTEST)

.test-binary: build $(VENV)/.test dist/rl
	@RL_TEST_COMMAND=$(CURDIR)/dist/rl tools/as-user $(PYTHON) -m pytest -n $(WORKERS) tests/e2e $(PYTEST)

.bench: build $(VENV)/.test dist/rl
	@bench/enter $(PYTHON) -m bench.run $(BENCH) >bench/RESULTS.new
	@mv bench/RESULTS.new "$${RL_ORIGIN:-.}/bench/RESULTS.md"

lint: build $(VENV)/.test
	$(VENV)/bin/ruff check --no-cache .
	$(VENV)/bin/ruff format --no-cache --check .
	$(PYTHON) -m mypy

core-asan: build
	mkdir -p build/asan && $(PYTHON) rootless/_lowlevel/build.py --asan build/asan

binary: dist/rl

dist/rl: $(VENV)/.compiled $(VENV)/.binary pyinstaller.spec $(shell find rootless -name '*.py')
	umask 022 && $(PYTHON) -m PyInstaller --log-level WARN --noconfirm --distpath dist --workpath build/pyinstaller pyinstaller.spec

clean:
	rm -rf $(VENV) build dist *.egg-info rootless/_lowlevel/*.so rootless/_lowlevel/rl-core
	find rootless tests bench -name __pycache__ -prune -exec rm -rf {} +
	[ "$$(id -u)" != 0 ] || rm -rf /var/lib/rl-test
