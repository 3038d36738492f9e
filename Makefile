# One line a command; `make` lists them. CI runs the same ones.
.DEFAULT_GOAL := help
PYTHON ?= python

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

develop: ## install editable, with the test and lint extras
	$(PYTHON) -m pip install -e '.[test,lint]'

test-rust: ## tests of the engine and its command line
	cargo test --release --config rust/test-profile.toml --workspace
	for vectors in avx2 default; do \
	  ATEN_CPU_CAPABILITY=$$vectors cargo test --release --config rust/test-profile.toml -p triptych-cpu || exit 1; \
	done

# Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user, and rustup's target aarch64-unknown-linux-gnu.
test-arm: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER = aarch64-linux-gnu-gcc
test-arm: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER = qemu-aarch64 -L /usr/aarch64-linux-gnu
test-arm: ## tests of the kernels for CPUs on an emulated ARM processor
	cargo test --release --config rust/test-profile.toml --target aarch64-unknown-linux-gnu -p triptych-cpu

test: ## tests of the package and the kernels, on up to four cores
	$(PYTHON) -m pytest -n logical --maxprocesses 4 --dist loadfile

lint-rust: ## rustfmt and clippy
	cargo fmt --all --check && cargo clippy --release --workspace --all-targets -- -D warnings

lint: ## ruff, mypy, and the stub against the built module
	ruff check . && ruff format --check . && mypy python/triptych && $(PYTHON) -m mypy.stubtest triptych._core

demo: ## raw text to a chat model in about ten minutes
	triptych demo

test-packaging: ## a wheel from the sdist, installed elsewhere
	$(PYTHON) -m pytest tests/packaging

test-parity: ## the quality profiles against their sources (extra `parity`)
	$(PYTHON) -m pytest tests/parity

test-demo: ## the demo scaled down, undisturbed and killed
	$(PYTHON) -m pytest tests/demo

bench-prep: ## preparation against the pure-Python twin
	$(PYTHON) benches/prep/bench_seed.py

ci: ## what decides whether a change lands
	bash .ci/run

.PHONY: help develop test-rust test-arm test test-parity test-demo test-packaging lint-rust lint demo bench-prep ci
