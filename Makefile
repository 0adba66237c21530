# slomod: `make` lists the targets.

CLIP ?=
FILMS ?=
GOLDEN ?=
DEMO_DIR ?= demo-out
PROGRAM ?= target/release/slomod
SOAK_MINUTES ?= 30
SOAK_SEED ?= $(shell date +%s)

.PHONY: help setup build demo test fuzz soak lint bench-cpu weights gpu-bundle deb deb-test nas-test tarball tarball-test arm64-test install clean

help: ## list the targets
	@echo "slomod: drop a video into a folder, get slow motion and a report"
	@echo
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 20
	@echo
	@echo "  make demo CLIP=/path/to/video.mp4   the same with a clip of yours"

# A build without the CUDA kernels is an error here; a plain `cargo build` warns and goes on.
build test demo gpu-bundle deb tarball: export SLOMOD_REQUIRE_KERNELS = 1
# The distribution's PyTorch or PyPI's: the recipe in training/ and `slomod import` are tested with it.
test: export SLOMOD_REQUIRE_TORCH = 1
# Many tests wait for a daemon: on few cores more of them run at a time.
test: export RUST_TEST_THREADS ?= $(shell n=$$(nproc); echo $$((n < 4 ? 5 : n)))

setup: ## install what building needs: system packages (Debian 12, Ubuntu 24.04), the compiler of the CUDA kernels
	@.ci/setup build

build: setup ## build target/release/slomod, for CPU and GPU; needs no GPU, driver or CUDA toolkit
	SLOMOD_BUILD="$$(git rev-parse --short=12 HEAD 2>/dev/null)" cargo build --release --locked

demo: build ## draw a clip, drop it into a watched folder, show what comes out
	target/release/slomod demo --dir $(DEMO_DIR) $(if $(CLIP),--clip "$(CLIP)")

test: ## everything that decides whether a change lands; installs what that takes (PyTorch too: 550 MB, on Ubuntu 5.5 GB)
	@.ci/setup test
	@.ci/setup torch
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	@.ci/deny
	@.ci/cargo-deb >/dev/null
	@rm -f target/skipped
	SLOMOD_SKIPPED=$(CURDIR)/target/skipped cargo test --locked --no-fail-fast
	@test ! -s target/skipped || { echo "Skipped here:"; sort target/skipped; }
	fuzz/run

fuzz: ## run every fuzz target for SECONDS (60)
	@.ci/setup test
	fuzz/run $(or $(SECONDS),60)

soak: ## arrivals, kills and faults at random for SOAK_MINUTES=30; SOAK_SEED=N repeats a run that failed
	@.ci/setup test
	SOAK_MINUTES=$(SOAK_MINUTES) SOAK_SEED=$(SOAK_SEED) cargo test --locked --test faults -- --exact soak::soak --nocapture

lint: setup ## format and lint only
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

bench-cpu: ## compare the CPU backend with PyTorch on the same threads (installs PyTorch into .venv-bench)
	@.ci/setup bench
	benches/bench_cpu.sh

weights: ## train weights of your own by training/README.md, on a GPU or for hours on a processor: CLIP=FILE, FILMS="FILE ...", ARGS="--seconds N ..."
	@.ci/setup weights
	@CLIP="$(abspath $(CLIP))" FILMS="$(abspath $(FILMS))" training/run $(ARGS)

gpu-bundle: ## one folder with the GPU tests and benchmarks, to run ./gpu-check on a machine with an NVIDIA driver
	@.ci/setup bundle
	GOLDEN="$(GOLDEN)" CLIP="$(CLIP)" benches/gpu_bundle.sh

deb: build ## make a Debian package of what `make build` built, in target/debian
	@.ci/setup deb
	packaging/deb/build

deb-test: deb ## install, upgrade, remove and purge that package in a Debian of its own that is booted (needs root)
	@.ci/setup deb-test
	packaging/deb/test

nas-test: deb ## try the README's part on SMB and NFS with that package, under a kernel of its own (needs root)
	@.ci/setup nas-test
	packaging/nas/test

tarball: build ## make an archive with all libraries, for other distributions, in target/tarball
	@.ci/setup tarball
	packaging/tarball/build

tarball-test: tarball ## let that archive work in a newer Debian without FFmpeg (needs root)
	@.ci/setup deb-test
	packaging/tarball/test

arm64-test: ## build for 64-bit ARM and run what depends on the processor in an emulator (half an hour)
	@.ci/setup arm64-test
	packaging/arm64/test

install: ## install what `make build` built, with configuration, units, manual and completions, under DESTDIR (default /)
	install -D -m 755 $(PROGRAM) $(DESTDIR)/usr/bin/slomod
	rm -rf target/package && $(PROGRAM) package-files target/package
	for page in target/package/man/*; do \
		install -D -m 644 $$page $(DESTDIR)/usr/share/man/man$${page##*.}/$${page##*/} || exit 1; done
	install -D -m 644 target/package/completions/slomod.bash $(DESTDIR)/usr/share/bash-completion/completions/slomod
	install -D -m 644 target/package/completions/_slomod $(DESTDIR)/usr/share/zsh/vendor-completions/_slomod
	install -D -m 644 target/package/completions/slomod.fish $(DESTDIR)/usr/share/fish/vendor_completions.d/slomod.fish
	install -D -m 644 README.md $(DESTDIR)/usr/share/doc/slomod/README.md
	install -D -m 644 README.ko.md $(DESTDIR)/usr/share/doc/slomod/README.ko.md
	for file in README.md starter-hard.jpg; do \
		install -D -m 644 models/$$file $(DESTDIR)/usr/share/doc/slomod/models/$$file || exit 1; done
	install -D -m 644 config/report.schema.json $(DESTDIR)/usr/share/slomod/report.schema.json
	install -D -m 644 systemd/slomod.service $(DESTDIR)/usr/lib/systemd/system/slomod.service
	install -D -m 644 systemd/slomod.sysusers $(DESTDIR)/usr/lib/sysusers.d/slomod.conf
	install -D -m 644 systemd/slomod.tmpfile $(DESTDIR)/usr/lib/tmpfiles.d/slomod.conf
	install -D -m 644 systemd/slomod.modules-load $(DESTDIR)/usr/lib/modules-load.d/slomod.conf
	install -D -m 644 systemd/slomod.catalog $(DESTDIR)/usr/lib/systemd/catalog/slomod.catalog
	install -D -m 755 config/hooks/mail $(DESTDIR)/usr/share/slomod/hooks/mail
	test -e $(DESTDIR)/etc/slomod/slomod.toml || \
		install -D -m 644 config/slomod.toml $(DESTDIR)/etc/slomod/slomod.toml
	test -n "$(DESTDIR)" || { systemd-sysusers slomod.conf && systemd-tmpfiles --create slomod.conf && \
		journalctl --update-catalog && { ! test -d /run/systemd/system || systemctl daemon-reload; } && \
		echo "start it: systemctl enable --now slomod"; }

clean: ## remove what was built
	cargo clean
	rm -rf $(DEMO_DIR)
