# Everything a developer or CI does, by name. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.SUFFIXES:

# Tools that `make setup` installed come first, so that everyone checks with the same versions.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

# Only a change of the contract that callers survive may replace the baseline.
BASELINE := proto/baseline.binpb

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what building and checking need and this machine lacks
	@.ci/setup

.PHONY: build
build: ## Build both services (debug)
	cargo build --workspace --bins

.PHONY: run
run: ## Start PostgreSQL and both services on loopback; Ctrl-C stops all of it
	@.ci/setup run
	@cargo build -q --workspace --bins
	@target/debug/dev run

.PHONY: demo
demo: ## From an agency's payment to a week of admitted, charged ads, in under three minutes
	@.ci/setup run
	@cargo build -q --workspace --bins
	@target/debug/demo

.PHONY: bench
bench: setup ## Measure against the references; writes target/bench/summary.json (release build)
	@cargo build -q --release --workspace --bins
	@cargo bench -q -p adspend-pacing --bench decision --no-run
	@target/release/bench

# Ten thousand runs take hours; a few are part of `make test`.
.PHONY: sim
sim: setup ## Limits and charges under faults: SEEDS=10000 simulated runs from FIRST=1 on (release build)
	@cargo build -q -p e2e --bin dev
	@cargo test -q --release -p adspend-pacing --test sim --no-run
	@ADSPEND_SIM_SEEDS=$${SEEDS:-10000} ADSPEND_SIM_FIRST=$${FIRST:-1} target/debug/dev with-pg -- \
		cargo test --release -p adspend-pacing --test sim no_fault -- --nocapture

.PHONY: eval
eval: setup ## Compare pacing with published rules on recorded traffic; writes target/eval and tests/eval
	@tests/eval/fetch.py || echo 'eval: going on with what is there'
	@cargo build -q --release -p e2e --bin eval
	@target/release/eval

# `--bins --tests` in one go: alone, the programs would be built with other features of the same
# dependencies than the tests, and everything twice. The log is summed up because a workspace ends in
# one result line per test binary.
.PHONY: test
test: setup ## Run every test, starting what it needs
	@mkdir -p target
	@cargo build -q --workspace --bins --tests
	@status=0; \
	target/debug/dev with-pg -- cargo test --workspace --no-fail-fast 2>&1 | tee target/test.log || status=$$?; \
	awk -f .ci/summary.awk target/test.log || status=1; \
	exit $$status

.PHONY: lint
lint: ## Formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: fmt
fmt: setup ## Format Rust and proto
	cargo fmt --all
	buf format -w proto --path proto/adspend

.PHONY: proto
proto: ## Write the Rust types and the descriptor set from proto/
	cargo run -q -p adspend-common --example codegen

.PHONY: proto-check
proto-check: setup ## Lint, format and compare the contract with its baseline
	buf lint proto
	buf format -d --exit-code proto --path proto/adspend
	buf breaking proto --against $(BASELINE)

.PHONY: proto-baseline
proto-baseline: setup ## Make the present contract the one that `proto-check` compares with
	buf build proto --exclude-source-info -o $(BASELINE)

.PHONY: deploy-check
deploy-check: setup ## Build the Kubernetes manifests and validate them strictly, lint the Dockerfiles
	@.ci/deploy-check

.PHONY: audit
audit: setup ## Licences, bans and sources of dependencies, then known vulnerabilities (needs the network)
	cargo fetch --locked
	cargo-deny --offline check licenses bans sources
	cargo-deny check advisories
