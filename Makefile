# What a person types. `.ci/run` calls the same targets, in its own order.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules

BUF_VERSION := 1.75.0
BUF := target/buf/node_modules/.bin/buf

.PHONY: help test lint bench soak faults fuzz demo interop clients clippy-installed cargo-fuzz-installed buf-lint buf-breaking test-programs
.DEFAULT_GOAL := help

help: ## Lists the targets
	@sed -nE 's/^([a-z-]+):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

test: test-programs ## Everything that is fast; installs on Debian what the tests start and is missing
	cargo test --locked --all-features

lint: clippy-installed buf-lint buf-breaking ## Formatting, clippy with warnings denied, the contract
	cargo fmt --all --check
	cargo clippy --locked --all-targets --all-features -- --deny warnings
	cargo clippy --locked --lib --no-default-features --features verifier -- --deny warnings
	@# tests/integration/supply_chain.rs holds deny.toml's bans and licences everywhere; the tool adds the advisories.
	if command -v cargo-deny >/dev/null; then cargo deny --all-features check; fi

bench: test-programs ## What issuing, ending and checking cost beside what they cannot do without: a quarter of an hour
	cargo bench --locked --all-features --bench ratios
	@echo
	@echo 'some of it:    cargo bench --all-features --bench ratios -- --leases 10000 checks endings leases'
	@echo 'for machines:  cargo bench --all-features --bench ratios -- --json'
	@echo 'single steps:  cargo bench --all-features --bench parts'

faults: export LEASEHOLD_PROMISE_CHECKS ?= 10000000
faults: ## The promise in a simulated world, under every fault: 10^7 checks
	@# Built as for `make test`: that is fast enough, and needs no second build.
	cargo test --locked --all-features --test promise -- --nocapture nothing_is_accepted

soak: test-programs ## The tests that are too long for every change, those ignored as `soak: …`: twenty minutes
	@# Those ignored as `vectors: …` are a suite of `make interop`. Built as for `make test`, with the same overflow checks: an
	@# optimised build takes about as long as it saves.
	cargo test --locked --all-features -- --ignored --skip wycheproof:: --nocapture

fuzz: cargo-fuzz-installed test-programs ## libFuzzer on every reader of a stranger's bytes, FUZZ_SECONDS (60) each
	tests/fuzz/run

demo: ## The whole story in one process
	cargo run --locked --release -- demo

interop: ## Against foreign software: needs Python, Node with npm, Go and OpenSSL
	tests/interop/run

clients: export LEASEHOLD_BIN = $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/release/leasehold
clients: ## The packages for other languages, against a broker: needs Python, and Node with npm
	cargo build --locked --release
	clients/python/check
	clients/typescript/check

clippy-installed:
	@cargo fmt --version >/dev/null && cargo clippy --version >/dev/null \
	    || rustup component add clippy rustfmt

cargo-fuzz-installed:
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz

buf-lint: $(BUF)
	cd proto && ../$(BUF) lint

# Against the commit before this one, which what is not committed yet is compared with, too.
buf-breaking: $(BUF)
	@rm -rf target/buf/before && mkdir -p target/buf/before
	@if git rev-parse --quiet --verify HEAD~1 >/dev/null 2>&1; then \
	    git archive HEAD~1 proto | tar -x -C target/buf/before; \
	    echo 'buf breaking, against the commit before this one'; \
	    cd proto && ../$(BUF) breaking --against ../target/buf/before/proto; \
	else \
	    echo 'the contract is compared with tests/golden/ only: there is no earlier commit here'; \
	fi

$(BUF):
	@command -v npm >/dev/null || { echo 'linting the contract needs npm, to install buf' >&2; exit 1; }
	npm install --no-save --no-audit --no-fund --ignore-scripts --prefix target/buf @bufbuild/buf@$(BUF_VERSION)
	@touch $@

# What tests start: their own Redis servers, and the README's commands. `program=Debian package`.
TEST_PROGRAMS := redis-server=redis-server awk=mawk curl=curl openssl=openssl

test-programs:
	@missing=; for program in $(TEST_PROGRAMS); do \
	    command -v "$${program%=*}" >/dev/null || missing+=" $${program#*=}"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	command -v apt-get >/dev/null \
	    || { echo "the tests start programs that are not here: install$$missing (Redis 7.0 or later)" >&2; exit 1; }; \
	as_root=; if [ "$$(id -u)" -ne 0 ]; then as_root=sudo; fi; \
	$$as_root apt-get update -qq; \
	$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	    -o DPkg::Lock::Timeout=300 $$missing
