# One line a command; `make` lists them. CI runs the same ones.
.DEFAULT_GOAL := help
PYTHON ?= python

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

develop: ## install editable, with the test and lint extras
	$(PYTHON) -m pip install -e '.[test,lint]'

test-rust: ## tests of the engine and its command line
	cargo test --release --config rust/test-profile.toml --workspace

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

.PHONY: help develop test-rust test test-parity test-demo test-packaging lint-rust lint demo bench-prep ci
