# libpuzzlefs. `make help` lists the targets.

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
URL := $(shell sed -n 's/^repository = "\(.*\)"/\1/p' Cargo.toml)
SONAME := libpuzzlefs.so.$(firstword $(subst ., ,$(VERSION)))

# Everything that is built, downloaded or made for the tests is in here.
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
export CARGO_TARGET_DIR := $(TARGET)
RELEASE := $(TARGET)/release

# The manual pages and completions.
PAGES := $(TARGET)/pages

# Whoever installs is often root, who often has no cargo: what is newer than its sources is not built again.
SOURCES := Cargo.toml Cargo.lock $(shell find src include tools/pages -type f)
BUILT := $(RELEASE)/built $(PAGES)/built

# Where `make install` puts things.
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
# mount(8) does not look for its helpers in /usr/local.
SBINDIR ?= $(if $(filter /usr /usr/local,$(PREFIX)),/usr/sbin,$(PREFIX)/sbin)
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
MAN1 = $(DATADIR)/man/man1
MAN3 = $(DATADIR)/man/man3
BASH = $(DATADIR)/bash-completion/completions
ZSH = $(DATADIR)/zsh/site-functions
FISH = $(DATADIR)/fish/vendor_completions.d
DESTDIR ?=
STRIP ?= strip

# An installation of our own, which the C and the Go tests are compiled against.
STAGE := $(TARGET)/stage
STAGED := PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig LD_LIBRARY_PATH=$(STAGE)/lib PATH=$(STAGE)/bin:$$PATH

# Go's cache knows nothing of what cgo finds with pkg-config: a macro tells it when that has changed.
GO_STAGED := $(STAGED) CGO_CFLAGS="-O2 -g -DSTAGED=0x$$(cd $(STAGE) && \
	cat include/puzzlefs.h lib/pkgconfig/puzzlefs.pc | sha256sum | cut -c 1-16)"
GO_STATIC := -tags puzzlefs_static,netgo,osusergo -ldflags '-extldflags -static'

# Programs that cargo installs, for us alone.
CAPNPC := $(TARGET)/tools/capnpc-0.27.0/bin/capnpc-rust
CBINDGEN := $(TARGET)/tools/cbindgen-0.29.4/bin/cbindgen
CARGO_DENY := $(TARGET)/tools/cargo-deny-0.20.2/bin/cargo-deny
CARGO_FUZZ := $(TARGET)/tools/cargo-fuzz-0.13.1/bin/cargo-fuzz
REFERENCE := $(TARGET)/tools/reference/bin/puzzlefs

# A program that go installs, for us alone.
STATICCHECK := $(TARGET)/tools/staticcheck-0.8.2/staticcheck

# The root filesystem of the demo and of the tests that read or mount one.
SMALL_TREE := $(TARGET)/trees/small

GENERATED := src/format/metadata_capnp.rs include/puzzlefs.h
SCRIPTS := .ci/run tools/demo tools/dependencies tools/fuzz tools/grown-library tools/rootfs tools/sanitized-library tools/setup $(wildcard tests/c/*.sh tests/install/*.sh tests/readme/*.sh tests/suite/*.sh)
GO_MODULES := $(sort go-bindings $(patsubst %/go.mod,%,$(wildcard $(addsuffix /go.mod,go-bindings/* examples/* examples/*/* tests/* tests/*/*))))

.DELETE_ON_ERROR:
.PHONY: all release pages packages deps demo test test-rust test-c test-go test-suite test-abi test-install test-readme \
	test-demo soak hostile fuzz lint bench pictures install install-strip uninstall stage generate check-generated describe-abi clean help

all: release pages ## build all that is installed

# Only the shared library has symbol versions: a linker that takes them from an archive finds every
# function twice. rustc has a version script of its own, which names the functions and no versions.
release: ## build the library and the command-line tool, optimised, in target/release
	cargo build --release --locked
	cargo rustc --release --locked --lib --crate-type staticlib -- --cfg c_library
	cargo rustc --release --locked --lib --crate-type cdylib -- --cfg c_library --cfg symver \
		-C link-arg=-Wl,-soname,$(SONAME),--version-script=src/capi/symbol-versions,--undefined-version
	@touch $(RELEASE)/built

pages: ## write the manual pages and the shell completions, in target/pages
	rm -rf $(PAGES)
	cargo run --quiet --release --locked --example pages $(PAGES)
	@touch $(PAGES)/built

$(RELEASE)/built: $(SOURCES)
	$(MAKE) release

$(PAGES)/built: $(SOURCES)
	$(MAKE) pages

# Set-up

packages: # what a Debian machine needs
	tools/setup

deps: packages $(REFERENCE) ## install what the tests need: packages, the reference implementation

# $(call cargo-install,CRATE@VERSION): a program, in the folder whose bin/ holds the target
cargo-install = cargo install --quiet --locked --target-dir $(TARGET)/tools/build --root $(abspath $(@D)/..) $(1)

$(CAPNPC): | packages
	$(call cargo-install,capnpc@0.27.0)

$(CBINDGEN): | packages
	$(call cargo-install,cbindgen@0.29.4)

# Without what it needs to ask for advisories, which are on a network.
$(CARGO_DENY): | packages
	$(call cargo-install,cargo-deny@0.20.2) --no-default-features

$(CARGO_FUZZ): | packages
	$(call cargo-install,cargo-fuzz@0.13.1)

$(STATICCHECK): | packages
	GOBIN=$(@D) go install honnef.co/go/tools/cmd/staticcheck@v0.8.2

# It asks for a nightly compiler; RUSTC_BOOTSTRAP makes a stable one accept its features.
$(REFERENCE): | packages
	RUSTC_BOOTSTRAP=1 $(call cargo-install,puzzlefs@0.2.0)

$(SMALL_TREE): | packages
	tools/rootfs small $@

# What it does, and whether it is right

demo: packages release $(SMALL_TREE) ## build, read, extract and copy images of a real root filesystem
	PATH=$(RELEASE):$$PATH tools/demo $(SMALL_TREE) $(TARGET)/demo

test: test-rust test-c test-go test-suite test-abi test-install test-readme test-demo ## run all the tests

# loom's dependencies are kept out of the library's.
test-rust: deps $(SMALL_TREE) ## run the Rust tests, those against the reference and other tools among them
	cargo test --release --locked --manifest-path tests/loom/Cargo.toml
	PUZZLEFS_REFERENCE=$(REFERENCE) PUZZLEFS_ROOT=$(SMALL_TREE) cargo test --release --locked

test-c: packages stage ## compile and run the C tests and examples
	tools/grown-library $(TARGET)/grown
	tools/sanitized-library address $(TARGET)/address
	tools/sanitized-library thread $(TARGET)/thread
	$(STAGED) tests/c/run.sh $(TARGET)/grown $(TARGET)/address $(TARGET)/thread

# -count=1: Go's cache does not see that the library changed. cgocheck2 looks at every pointer that Go
# writes into C's memory. The second run is a fully static program.
test-go: packages stage $(SMALL_TREE) ## compile and run the Go tests and examples, linked dynamically and statically
	@set -e; export PUZZLEFS_ROOT=$(SMALL_TREE); for module in $(GO_MODULES); do \
		cd $(CURDIR)/$$module; \
		echo "GOEXPERIMENT=cgocheck2 go test -race ./... ($$module)"; \
		$(GO_STAGED) GOEXPERIMENT=cgocheck2 go test -count=1 -race ./...; \
		echo "go test $(GO_STATIC) ./... ($$module)"; $(GO_STAGED) go test -count=1 $(GO_STATIC) ./...; \
	done

test-suite: packages stage ## run one suite on a tool in C, in Go and in Rust
	$(GO_STAGED) tests/suite/run.sh

test-abi: packages stage ## check that the C ABI is what the last release promised (doc/abi.md)
	python3 tests/abi/run.py $(STAGE)

test-install: packages all ## install, use and uninstall it, as users and as packagers do
	tests/install/run.sh $(TARGET)/installed

test-readme: packages stage ## run the examples of README.md
	$(GO_STAGED) tests/readme/run.sh

soak: deps $(SMALL_TREE) ## mount and build in one process each for SECONDS (7200), and see that nothing is lost
	PUZZLEFS_ROOT=$(SMALL_TREE) PUZZLEFS_SOAK=$(or $(SECONDS),7200) cargo test --release --locked \
		--test soak_mount --test soak_build -- --nocapture

# Whatever else the machine does costs processor time too.
hostile: packages stage ## read all hostile images by the command, in C, Go and Rust, each in SECONDS (5) of processor time
	$(GO_STAGED) PUZZLEFS_SECONDS=$(or $(SECONDS),5) tests/suite/run.sh \
		$(or $(TABLES),bombs:: layouts:: messages:: metadata:: right_input::)

test-demo: demo # the demo compares what it builds with what it extracts

lint: packages stage check-generated $(STATICCHECK) $(CARGO_DENY) ## check formatting, dependencies, and what clippy, go vet, staticcheck and shellcheck say
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --all-targets --release --locked -- -D warnings
	tools/dependencies
	$(CARGO_DENY) --log-level error check --show-stats licenses bans sources
	RUSTFLAGS='--cfg fuzzing' cargo clippy --manifest-path fuzz/Cargo.toml --target-dir $(TARGET)/fuzz-lint --locked -- -D warnings
	shellcheck $(SCRIPTS)
	@set -e; for module in $(GO_MODULES); do \
		echo "gofmt, go vet, staticcheck ./... ($$module)"; cd $(CURDIR)/$$module; \
		unformatted=$$(gofmt -l .); \
		test -z "$$unformatted" || { echo "run gofmt -w on $$unformatted" >&2; exit 1; }; \
		$(GO_STAGED) go vet ./...; $(GO_STAGED) go vet $(GO_STATIC) ./...; \
		$(GO_STAGED) $(STATICCHECK) -checks all ./...; \
		$(GO_STAGED) $(STATICCHECK) -checks all -tags puzzlefs_static,netgo,osusergo ./...; \
	done

# The sanitizer and the counters of coverage are options of a nightly compiler, as the reference's features.
fuzz: packages $(CARGO_FUZZ) ## fuzz whatever reads what others wrote, each target for SECONDS (60)
	RUSTC_BOOTSTRAP=1 $(CARGO_FUZZ) build --fuzz-dir fuzz --target-dir $(TARGET)/fuzz
	tools/fuzz $(or $(SECONDS),60) $(TARGET)/fuzz

bench: packages release $(REFERENCE) ## measure against other tools (BENCH=--help tells more)
	python3 tools/bench $(BENCH)

pictures: packages release ## draw the pictures of README.md anew, in doc/pictures
	python3 tools/pictures doc/pictures

# Installing

# Programs find a library in the system's folders once ldconfig has seen it there; for a package, whoever unpacks it
# runs that.
ldconfig = if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ] && ldconfig -NXv 2>/dev/null | grep -qF '$(SONAME) '; then \
	echo ldconfig; ldconfig; fi

install: $(BUILT) ## install under PREFIX (also BINDIR, SBINDIR, LIBDIR, INCLUDEDIR, DATADIR, DESTDIR)
	install -d $(addprefix $(DESTDIR),$(BINDIR) $(SBINDIR) $(INCLUDEDIR) $(LIBDIR)/pkgconfig)
	install -m 755 $(RELEASE)/puzzlefs $(DESTDIR)$(BINDIR)/puzzlefs
	ln -sf $(BINDIR)/puzzlefs $(DESTDIR)$(SBINDIR)/mount.puzzlefs
	install -m 644 include/puzzlefs.h $(DESTDIR)$(INCLUDEDIR)/puzzlefs.h
	install -m 644 $(RELEASE)/libpuzzlefs.a $(DESTDIR)$(LIBDIR)/libpuzzlefs.a
	install -m 755 $(RELEASE)/libpuzzlefs.so $(DESTDIR)$(LIBDIR)/libpuzzlefs.so.$(VERSION)
	ln -sf libpuzzlefs.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libpuzzlefs.so
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(VERSION)|' -e 's|@URL@|$(URL)|' puzzlefs.pc.in \
		>$(DESTDIR)$(LIBDIR)/pkgconfig/puzzlefs.pc
	chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/puzzlefs.pc
	install -d $(addprefix $(DESTDIR),$(MAN1) $(MAN3) $(BASH) $(ZSH) $(FISH))
	install -m 644 $(PAGES)/man1/*.1 $(DESTDIR)$(MAN1)
	install -m 644 $(PAGES)/man3/libpuzzlefs.3 $(DESTDIR)$(MAN3)
	install -m 644 $(PAGES)/completions/puzzlefs.bash $(DESTDIR)$(BASH)/puzzlefs
	install -m 644 $(PAGES)/completions/_puzzlefs $(DESTDIR)$(ZSH)/_puzzlefs
	install -m 644 $(PAGES)/completions/puzzlefs.fish $(DESTDIR)$(FISH)/puzzlefs.fish
	@$(ldconfig)

install-strip: install ## the same, without what only debuggers and backtraces need
	$(STRIP) --strip-unneeded $(DESTDIR)$(BINDIR)/puzzlefs $(DESTDIR)$(LIBDIR)/libpuzzlefs.so.$(VERSION)
	$(STRIP) --strip-debug $(DESTDIR)$(LIBDIR)/libpuzzlefs.a

uninstall: ## remove what `install` with the same variables put there
	rm -f $(DESTDIR)$(BINDIR)/puzzlefs $(DESTDIR)$(SBINDIR)/mount.puzzlefs $(DESTDIR)$(INCLUDEDIR)/puzzlefs.h $(DESTDIR)$(LIBDIR)/pkgconfig/puzzlefs.pc \
		$(addprefix $(DESTDIR)$(LIBDIR)/,libpuzzlefs.a libpuzzlefs.so libpuzzlefs.so.$(VERSION) $(SONAME)) \
		$(addprefix $(DESTDIR),$(MAN1)/puzzlefs.1 $(MAN3)/libpuzzlefs.3 $(BASH)/puzzlefs $(ZSH)/_puzzlefs $(FISH)/puzzlefs.fish)
	rm -f $(DESTDIR)$(MAN1)/puzzlefs-*.1

# Ours alone: whatever the caller says about where `install` shall put things is not for this.
stage: release
	$(MAKE) install PREFIX=$(STAGE) BINDIR=$(STAGE)/bin SBINDIR=$(STAGE)/sbin LIBDIR=$(STAGE)/lib INCLUDEDIR=$(STAGE)/include DATADIR=$(STAGE)/share DESTDIR=

# Generated files, which are committed: nobody needs these tools to build

# $(call generate-in,DIR)
define generate-in
mkdir -p $(addprefix $(1)/,$(dir $(GENERATED)))
capnp compile --output=$(CAPNPC):$(1)/src/format --src-prefix=capnp capnp/metadata.capnp
$(CBINDGEN) --quiet --config cbindgen.toml --output $(1)/include/puzzlefs.h
endef

generate: packages $(CAPNPC) $(CBINDGEN) ## write the generated files anew: the schema's Rust, the C header
	$(call generate-in,.)

check-generated: packages $(CAPNPC) $(CBINDGEN) ## check that the generated files are what their sources say
	$(call generate-in,$(TARGET)/generated)
	@set -e; for file in $(GENERATED); do \
		diff -u $$file $(TARGET)/generated/$$file || \
			{ echo 'run `make generate` and commit the result' >&2; exit 1; }; \
	done

describe-abi: packages stage ## write down the C ABI, when a version is released
	tools/abi describe $(STAGE) tests/abi/libpuzzlefs.abi

clean: ## remove all that was built, downloaded or made for the tests
	cargo clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18
