# What a crew and a developer call. `make help` lists it.
SITE ?= coachella
PYTHON := .venv/bin/python
SHELL_SCRIPTS := $(shell grep -rlE "^\#!/bin/(ba)?sh" lab --include="*" 2>/dev/null)
LAB := PYTHONPATH=lab/src $(PYTHON) -m lab
SCENARIO ?= default
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help venv dev named secrets rollout rehearse rehearse-down rehearse-status readings check test molecule bench soak lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv:
	@bin/make-venv controller
dev:
	@bin/make-venv dev

# A real site is named, never taken from a default.
named:
	@$(if $(filter file,$(origin SITE)),echo "Say which site: make $(MAKECMDGOALS) SITE=…" >&2; exit 1,:)

secrets: named venv ## make or complete a site's encrypted secrets (SITE=…)
	@$(PYTHON) bin/make-secrets $(SITE)

rollout: named venv ## the real thing: set up a real site (SITE=… PLAY="--check --diff")
	ansible-playbook site.yml --limit $(SITE) $(PLAY)

rehearse: dev ## build a site in boxes on this machine and run site.yml on it (SITE=coachella)
	@$(LAB) rehearse $(SITE)

readings: dev ## newest readings of the rehearsed site (WATCH=1 keeps the table live)
	@$(LAB) readings $(SITE) $(if $(WATCH),--watch)

rehearse-status: dev ## what of the rehearsal stands
	@$(LAB) status $(SITE)

rehearse-down: dev ## remove the rehearsal's boxes
	@$(LAB) down $(SITE)

check: dev ## lint, types, rules and unit tests (no containers; under 2 minutes)
	ruff check
	ruff format --check
	yamllint --strict .
	ansible-lint --offline
	shellcheck bin/make-venv bin/vault-password .ci/run $(SHELL_SCRIPTS)
	MYPYPATH=files/decoder/src:files/device_map/src:files/dashboards/src:lab/src mypy files/decoder/src files/device_map/src files/dashboards/src lab/src plugins/action plugins/filter
	mypy plugins/modules
	pytest -q -m "not slow"

molecule: dev ## one scenario on the boxes of stagecoach (SCENARIO=default, outage, rename)
	@$(LAB) up stagecoach
	molecule test --scenario-name $(SCENARIO)

test: ## everything: check, then all scenarios on fresh boxes (10 minutes; 20 on a machine with nothing)
	@lab/test

soak: dev ## the outages of `make test`, ten minutes each (35 minutes)
	@$(LAB) up stagecoach
	OUTAGE_SECONDS=600 molecule test --scenario-name outage

bench: dev ## figures: decoder, latency, memory, run times (SITE must be rehearsed)
	PYTHONPATH=lab/src:files/decoder/src $(PYTHON) lab/bench/decoder.py
	@for script in pipeline footprint runs; do \
	  echo "== $$script"; PYTHONPATH=lab/src $(PYTHON) lab/bench/$$script.py $(SITE) || exit 1; done

lock: dev ## write the requirements files anew from their .in files
	for name in files/decoder/requirements lab/images/simulators/requirements requirements/controller requirements/dev; do \
	  uv pip compile --quiet --upgrade --universal --python-version 3.12 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-header --output-file $$name.txt $$name.in || exit 1; done
