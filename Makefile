# What one does with a checkout; `make` alone lists it.
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
PEERS := $(TARGET)/peers

WITH_SERVERS := scripts/with-servers mariadb postgresql redis etcd --
WITH_CLOUD := scripts/with-servers mariadb postgresql redis etcd aetos --

# cargo shares the cores out itself; make's job server is not for it.
unexport MAKEFLAGS

.PHONY: help build test pythons e2e docs ui devstack torture bench bench-catchup bench-api lint quickstart install uninstall deb samples clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /  \1\t/p' Makefile | expand -t 18

build: ## Build the program, optimised
	cargo build --release --locked

test: export RATEKITTY_PEERS := $(PEERS)
test: export PATH := $(PATH):$(PEERS)/prometheus/usr/bin
test: export TZ := UTC
test: ## Run the tests, against real programs; TEST=NAME those alone
	@scripts/get-peer prometheus cloudkitty-sdist cloudkitty-venv schemathesis-venv cargo-nextest > /dev/null
	RATEKITTY_CLOUDKITTY="$$(scripts/get-peer cloudkitty-venv | cut -d= -f2)" \
	  $(WITH_CLOUD) cargo nextest run --locked $(TEST)

# Those that Debian has beside its present one, which are the ends of what is supported.
pythons: export RATEKITTY_PEERS := $(PEERS)
pythons: export TZ := UTC
pythons: ## Run the tests of Python scripts on CPython 3.9 and 3.13
	@scripts/get-peer cloudkitty-venv cargo-nextest > /dev/null
	@for version in 3.9 3.13; do \
	  RATEKITTY_CLOUDKITTY="$$(scripts/get-peer cloudkitty-venv | cut -d= -f2)" \
	  RATEKITTY_TEST_PYTHON="$$(scripts/get-peer cpython-$$version | cut -d= -f2)/python3" \
	    scripts/with-servers mariadb postgresql -- cargo nextest run --locked scripts:: || exit; \
	done

e2e: export TZ := UTC
e2e: PROGRAM ?= release
e2e: $(if $(filter debug,$(PROGRAM)),,build) ## Rate, read and run tempest in a whole cloud of real programs
	scripts/with-servers mariadb aetos -- sh -c '"$$RATEKITTY_OPENSTACK_VENV/bin/python" \
	  tests/fixtures/openstack/e2e.py --folder "$(TARGET)/e2e" "$(TARGET)/$(PROGRAM)/ratekitty"'

docs: PROGRAM ?= release
docs: $(if $(filter debug,$(PROGRAM)),,build) ## Run the commands in the documents, and compare what they print
	@scripts/get-peer prometheus mariadb cloudkitty-venv > /dev/null
	scripts/check-docs "$(PROGRAM)"

ui: PROGRAM ?= debug
ui: $(if $(filter debug,$(PROGRAM)),,build) ## Look at the page /ui in a headless Chromium
	scripts/check-ui $(PROGRAM)

devstack: ## Check the DevStack plugin, the Zuul jobs and the Loki deployments
	scripts/check-devstack

torture: export RATEKITTY_PEERS := $(PEERS)
torture: export TZ := UTC
torture: export RATEKITTY_TORTURE_KILLS ?= 210
torture: export RATEKITTY_TEST_OUTAGE ?= 60
torture: ## Kill processors at random for minutes, and compare what they rated
	@scripts/get-peer cloudkitty-sdist cargo-nextest > /dev/null
	$(WITH_SERVERS) cargo nextest run --locked --profile torture --no-capture torture:: outlives_its_database

bench: export PATH := $(PATH):$(PEERS)/prometheus/usr/bin
bench: ## Measure collecting, rating and storing
	@scripts/get-peer prometheus > /dev/null
	cargo bench --profile release --locked --bench pipeline
	cargo bench --profile release --locked --bench loki

# Without the reference, as work grows, and for one cycle, no MariaDB is needed.
bench-catchup: ALONE := $(filter 0,$(BENCH_REFERENCE))$(filter 1,$(BENCH_GROWTH) $(BENCH_STEADY))
bench-catchup: build ## Catch up beside a bare client and the reference
	@scripts/get-peer prometheus $(if $(ALONE),,cloudkitty-venv) > /dev/null
	$(if $(ALONE),,scripts/with-servers mariadb --) python3 benches/catchup.py "$(TARGET)/release/ratekitty"

bench-api: build ## Load the API, beside the reference's
	scripts/with-servers mariadb -- python3 benches/api_load.py "$(TARGET)/release/ratekitty"

lint: ## Check format, lints, licences and sources of dependencies
	@scripts/get-peer cargo-deny > /dev/null
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo deny --locked check bans licenses sources

quickstart: build ## Rate two real processes and serve the API
	@scripts/quickstart

PROGRAM_FILE = $(TARGET)/$(or $(PROGRAM),release)/ratekitty

install: $(if $(wildcard $(PROGRAM_FILE)),,build) ## Install it: PREFIX=/usr/local DESTDIR= LINKDIR=PREFIX/bin
	scripts/install "$(PROGRAM_FILE)"

uninstall: ## Take away what install with the same variables put there
	scripts/install --uninstall "$(PROGRAM_FILE)"

deb: $(if $(wildcard $(PROGRAM_FILE)),,build) ## Make a Debian package, in target/debian
	@scripts/get-peer cargo-deb > /dev/null
	rm -rf target/package
	STRIP=1 DESTDIR="$(CURDIR)/target/package" PREFIX=/usr LINKDIR=/usr/lib/ratekitty/bin \
	  ZSHDIR=/usr/share/zsh/vendor-completions scripts/install "$(PROGRAM_FILE)"
	cargo deb --locked --no-build $(DEB_OPTIONS)

samples: ## Write the samples of config/ that come out of the program
	cargo build --locked --quiet
	"$(TARGET)/debug/ratekitty" sample-config > config/cloudkitty.conf
	"$(TARGET)/debug/ratekitty" policy sample > config/policy.yaml

clean: ## Remove what was built, downloaded and tried
	cargo clean
	rm -rf .quickstart
