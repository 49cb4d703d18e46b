# Picket in a few commands; `make` alone lists them. Everything is built in one profile, so each dependency once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo test lint model soak swarm fuzz flood powercut bench deb clean prepare-demo prepare-test prepare-bench

CARGO_TARGET_DIR ?= target
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/picket
SIMULATION := $(CARGO_TARGET_DIR)/release/picket-simulation
HUMAN := $(CACHE)/human-3.3.6
CARGO_DENY := $(CACHE)/tools/cargo-deny

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

build: prepare-demo ## build the agent, the coordinator and the demo
	cargo build --release --locked -p picket-agent -p picket-coordinator -p picket-simulation

demo: build ## a site of three agents on real video; ONCE=1: a fixed number of FRAMES without a screen, then a report
	"$(SIMULATION)" demo $(if $(ONCE),--once) $(if $(FRAMES),--frames $(FRAMES))

test: lint ## every check and every test
	if [ -e coordinator/dashboard/package.json ]; then npm test --prefix coordinator/dashboard; fi
	cargo build --release --locked --workspace --bins
	cargo test --release --locked --workspace
	cargo test --release --locked --workspace --features picket-agent/camera --test sources nokhwa

lint: prepare-test ## format, clippy, documentation, and the dependencies' licences and sources
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cargo clippy --release --locked -p picket-agent --all-targets --features camera -- -D warnings
	cargo clippy --release --locked -p picket-agent --no-default-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --workspace --no-deps --quiet
	if command -v shellcheck >/dev/null; then shellcheck .ci/run simulation/prepare/prepare.sh systemd/debian/{build.sh,postinst,prerm,postrm}; fi
	cargo fetch --locked --quiet
	"$(CARGO_DENY)" --frozen check licenses bans sources
	if [ -d "$${CARGO_HOME:-$$HOME/.cargo}/advisory-dbs" ]; then \
		"$(CARGO_DENY)" --frozen check advisories; \
	else \
		echo 'lint: the advisory database is not on this machine: advisories are NOT checked (cargo deny fetch brings it)'; \
	fi

model: build ## import the default detector anew from its npm package, and compare it with the one in the tree: byte for byte
	mkdir -p "$(HUMAN)"
	if ! [ -e "$(HUMAN)/centernet.bin" ]; then \
		cd "$(HUMAN)" && npm pack --silent @vladmandic/human@3.3.6 >/dev/null && \
		tar xzf vladmandic-human-3.3.6.tgz --strip-components=2 package/models/centernet.json package/models/centernet.bin && \
		rm vladmandic-human-3.3.6.tgz; \
	fi
	cd "$(HUMAN)" && sha256sum --check --quiet "$(CURDIR)/agent/models/source.sha256"
	"$(CARGO_TARGET_DIR)/release/picket-agent" model import "$(HUMAN)/centernet.json" --out "$(HUMAN)/made.onnx"
	cmp "$(HUMAN)/made.onnx" agent/models/centernet_u8_384x288_top100_w16.onnx
	cmp "$(HUMAN)/made.head.f32" agent/models/centernet_person.head.f32
	@echo 'model: the imported model is the default model, byte for byte'

soak: build ## MINUTES (5) of killed brokers, agents and coordinators, beside a naive publisher; then what was lost: nothing
	"$(SIMULATION)" soak --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED)) --report "$(CARGO_TARGET_DIR)/soak.json"

swarm: build ## who watches what in simulated time: SEEDS (1000) of fault mixes from SEED (0), or of one SCENARIO=file; RECORD=file.svg
	"$(SIMULATION)" run $(SCENARIO) --seeds $(or $(SEEDS),1000) --seed $(or $(SEED),0) $(if $(RECORD),--record $(RECORD))

bench: build prepare-bench ## the frame path, the store and learning against the raw limit and others, as JSON under target/; PART=frames|storage|learn
	"$(SIMULATION)" bench $(PART)

fuzz: ## hostile bytes at every door for FUZZ_S seconds (600), from seed SEED (1)
	PICKET_FUZZ_S=$(or $(FUZZ_S),600) PICKET_FUZZ_SEED=$(or $(SEED),1) \
		cargo test --release --locked -p picket-tests --test fuzz -- --nocapture

flood: ## 20 s of 10,000 malformed messages a second beside a healthy agent
	PICKET_FLOOD_S=20 cargo test --release --locked -p picket-tests --test trust flood -- --nocapture

powercut: ## 200 power cuts under the agent's store, 40 under the archive; as root
	PICKET_POWER_CUTS=200 cargo test --release --locked -p picket-tests --test power_cut -- --nocapture

deb: ## Debian packages under target/debian: ARCH=arm64 for the boards, DIST=1 for what ships (slower to link)
ifeq ($(ARCH),arm64)
deb: TRIPLE := aarch64-unknown-linux-gnu
deb: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc
deb: export CC_aarch64_unknown_linux_gnu := aarch64-linux-gnu-gcc
endif
deb: PROFILE := $(if $(DIST),dist,release)
deb: prepare-demo
	@if [ -n "$(TRIPLE)" ] && ! { rustc --print target-libdir --target "$(TRIPLE)" | xargs test -d && \
		command -v aarch64-linux-gnu-gcc >/dev/null; }; then \
		echo 'deb: arm64 is SKIPPED: it needs rustup target add $(TRIPLE), and apt install gcc-aarch64-linux-gnu' >&2; exit 0; \
	fi; \
	cargo build --profile $(PROFILE) --locked $(if $(TRIPLE),--target $(TRIPLE)) -p picket-agent -p picket-coordinator && \
	systemd/debian/build.sh $(or $(ARCH),$$(dpkg --print-architecture)) \
		"$(CARGO_TARGET_DIR)/$(if $(TRIPLE),$(TRIPLE)/)$(PROFILE)" "$(CARGO_TARGET_DIR)/debian"

clean: ## remove what was built; the cache of downloads stays
	cargo clean
	rm -rf coordinator/dashboard/dist coordinator/dashboard/node_modules tests/browser/node_modules

prepare-demo:
	@simulation/prepare/prepare.sh demo

prepare-test:
	@simulation/prepare/prepare.sh test

prepare-bench:
	@simulation/prepare/prepare.sh bench
