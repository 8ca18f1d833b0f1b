# `make help` lists the targets.
SHELL := /bin/bash -euo pipefail
.DEFAULT_GOAL := help
INVENTORY ?= inventories/lab

# Every recipe that needs Python tools starts with this: the project's own environment comes first in PATH, and the
# checkout is linked as a collection where Ansible looks for it.
ENTER = environment=$$(tests/environment); export PATH=$$environment/bin:$$PATH KUBEWRIGHT_VENV=$$environment; \
	mkdir -p .ansible/collections/ansible_collections/kubewright; \
	ln -sfn ../../../.. .ansible/collections/ansible_collections/kubewright/cluster;

LAB_PACKAGES := apt-utils dpkg-dev gcc gnupg iproute2 iptables libc6-dev libseccomp-dev maven mmdebstrap openssh-client openssl podman python3-venv runc skopeo

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: lab-packages ## A highly available cluster on this machine, made by the playbook, and how to use it
	@$(ENTER) lab/demo $(INVENTORY)

.PHONY: lab
lab: lab-packages ## Start the lab: the origin and the hosts of INVENTORY (default inventories/lab)
	@$(ENTER) python3 -m lab up --inventory $(INVENTORY)

.PHONY: lab-packages
lab-packages:
	@missing=$$(for package in $(LAB_PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed || echo $$package; done); \
	if [ -n "$$missing" ]; then \
		echo "Installing" $$missing "..."; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing \
			netavark aardvark-dns >/dev/null; \
	fi

.PHONY: check
check: ## Formatting, lint, types, argument specs and unit tests: minutes, no lab
	@$(ENTER) tests/check

.PHONY: docs
docs: ## The documentation as a site, in .docs/html; fetches nothing, and a warning fails it
	@$(ENTER) docs/site/build

.PHONY: artefact
artefact: ## The artefact as Galaxy takes it: imported without a warning, installed, through ansible-test's sanity tests
	@$(ENTER) tests/artefact

.PHONY: release
release: ## A release, here only: changelog, version, tag, artefact, all or nothing; VERSION=1.2.3
	@$(ENTER) python3 changelogs/release.py "$(VERSION)"

.PHONY: test
test: lab-packages ## Everything, on real components in the lab, from nothing
	@$(ENTER) tests/run

.PHONY: soak
soak: lab-packages ## The long tests; each leaves a dated line under tests/soak
	@$(ENTER) tests/soak/run

.PHONY: bench
bench: lab-packages ## Side-by-side measurements; BENCH="--quick" and others are options of bench/run
	@$(ENTER) bench/run --inventory $(INVENTORY) $(BENCH)

.PHONY: clean
clean: ## Remove every trace of the lab; the cache of built artefacts stays
	@$(ENTER) python3 -m lab clean
	@rm -rf .ansible .docs .mypy_cache .ruff_cache .pytest_cache tests/output

.PHONY: clean-cache
clean-cache: ## Remove the cache of built artefacts and the Python environments too
	@rm -rf "$${KUBEWRIGHT_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/kubewright}"
