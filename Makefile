# The commands of slotwise. Everything here needs Python 3.11+ and make, nothing else.
# ARGS passes on: make test ARGS="-k premium", make run ARGS="--help".

PYTHON ?= python3
ARGS ?=
# Test files side by side: one a processor, and no more than four, as each brings brokers and a Postgres of its own.
JOBS ?= logical

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help venv run test check bench mutate lock

help: ## Say what each command is for
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY) ## Install slotwise and its locked dependencies into .venv

# The stamp is younger than the lock and the project file, or the installation is made again.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "slotwise needs Python 3.11 or newer, and $(PYTHON) is not: install one and say which, as in 'make venv PYTHON=python3.12'." >&2; exit 1; }
	@echo "Installing slotwise and its packages into $(VENV); this takes half a minute." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

run: $(READY) ## Start everything on this machine, with a sample of work and a board
	@$(BIN)/slotwise up --sample $(ARGS)

test: $(READY) ## Run the tests; what cannot run here is skipped with its reason
	$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY) ## Format, lint, types and import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy streams schemas tests
	$(BIN)/lint-imports

bench: $(READY) ## Measure against the budgets
	$(BIN)/python -m tests.bench $(ARGS)

# On a copy of what is committed, and with a tool of its own, of this exact version: tests/mutation uses its insides.
mutate: $(READY) ## Try the tests of the policy on small mistakes put into it
	@set -eu; lab=$$(mktemp -d); trap 'rm -rf "$$lab"' EXIT; out="$(CURDIR)/build/mutation"; \
	locked=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	$(BIN)/python -m venv "$$lab/tool"; \
	"$$lab/tool/bin/pip" install --quiet --disable-pip-version-check 'mutmut==3.8.1'; \
	git clone --quiet . "$$lab/copy"; cd "$$lab/copy"; \
	PYTHONPATH="$$locked" "$$lab/tool/bin/python" -m tests.mutation --out "$$out" $(ARGS); \
	echo "Every mutant is in $$out/mutants.jsonl, and those that no test noticed in survivors.txt beside it."

# uv does the resolving, from a throw-away environment: it is not needed to install, test or run.
lock: ## Renew requirements.lock from pyproject.toml
	@set -eu; tool=$$(mktemp -d); trap 'rm -rf "$$tool"' EXIT; \
	$(PYTHON) -m venv "$$tool"; \
	"$$tool/bin/pip" install --quiet --disable-pip-version-check 'uv>=0.9'; \
	"$$tool/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --custom-compile-command 'make lock' --extra dev pyproject.toml -o requirements.lock
