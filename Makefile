# `make demo` and `make test` do all set-up themselves; `make help` lists the rest.
PYTHON := .venv/bin/python
INSTALLED := .venv/.installed
CODEC := $(wildcard gatekeeperd/wire/*.py gatekeeperd/wire/_compiled/*.pxd)
SECONDS ?= 60

.PHONY: help demo demo-standalone test check fuzz bench coverage format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

$(INSTALLED): pyproject.toml setup.py tools/bootstrap $(CODEC)
	@tools/bootstrap
	@touch $@

demo: demo-standalone ## eight guardians register and are admitted over real UDP; refusals; the witness log verified

demo-standalone: $(INSTALLED) ## one node on loopback addresses; needs no root
	@$(PYTHON) -m gatekeeperd.demo

test: $(INSTALLED) ## every check and every test
	@tools/bootstrap tshark openssl
	@$(MAKE) --no-print-directory check
	@$(PYTHON) -m pytest --cov --cov-report=term

check: $(INSTALLED) ## lint, formatting and types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

fuzz: $(INSTALLED) ## mutate messages at the decoders (SECONDS=60)
	@$(PYTHON) -m tests.fuzz --seconds $(SECONDS)

bench: $(INSTALLED) ## measure; writes build/bench/results.json and docs/performance.md
	@$(PYTHON) -m tests.bench

format: $(INSTALLED) ## rewrite the sources in the project's style
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

clean: ## remove what was built, .venv included
	rm -rf build .venv *.egg-info gatekeeperd/wire/*.c gatekeeperd/wire/*.so gatekeeperd/wire/_compiled/*.c gatekeeperd/wire/_compiled/*.so
