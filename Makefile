# What a developer types. Everything runs in .venv, which is made from requirements.lock and made again when that changes.

PYTHON ?=
ARGS ?=
PROVIDER ?=
PROMPT ?=
SEEDS ?= 1
SEED ?=
RUNS ?= 200

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PROMPT # through the environment, for it is free text

.DEFAULT_GOAL := help
.PHONY: help demo up test lint schema bench chaos lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Train a real model on this machine, watch it live, call it (PROVIDER= PROMPT=)
	@$(BIN)/runwire demo $(if $(PROVIDER),--provider '$(PROVIDER)') $(if $(PROMPT),--prompt "$$PROMPT") $(ARGS)

up: $(INSTALLED) ## Start the API, a worker and their servers, and stay
	@$(BIN)/runwire up $(ARGS)

test: $(INSTALLED) ## Run the tests (ARGS= goes to pytest, and takes its pick)
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else # faults want the machine for themselves
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --ignore tests/e2e --ignore tests/chaos/test_chaos.py
	@$(BIN)/python -m pytest tests/e2e tests/chaos/test_chaos.py
endif

bench: $(INSTALLED) ## Measure what is promised in time (SHORT=1 takes less of it)
	@$(BIN)/python -m bench $(if $(SHORT),--short)

chaos: $(INSTALLED) ## Kill everything at random while runs go on at all providers (SEEDS= SEED= RUNS=)
	@$(BIN)/python -m tests.chaos --seeds '$(SEEDS)' --runs '$(RUNS)' $(if $(SEED),--seed '$(SEED)') $(ARGS)

lint: $(INSTALLED) ## Check style, format, types and import directions
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

schema: $(INSTALLED) ## Print the GraphQL schema into schema.graphql
	@$(BIN)/runwire schema > schema.graphql.new && mv schema.graphql.new schema.graphql || { rm -f schema.graphql.new; exit 1; }

lock: $(INSTALLED) ## Resolve requirements.lock again (ARGS=--upgrade takes the newest versions)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--group test --group lint --group build --output-file requirements.lock $(ARGS) pyproject.toml

clean: ## Remove .venv and what tools leave behind; keep the data in .runwire
	@rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python that fits and can make environments; says what to install when there is none.
define FIND_PYTHON
found=''; \
for candidate in $(if $(PYTHON),'$(PYTHON)',python3.11 python3.12 python3 python3.13); do \
	version=$$("$$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	case "$$version" in 3.11|3.12|3.13) ;; *) continue ;; esac; \
	found="$$candidate"; \
	"$$candidate" -c 'import ensurepip, venv' 2>/dev/null && break; \
	echo "$$candidate cannot make virtual environments: install its venv package (Debian, Ubuntu: apt install python$$version-venv)." >&2; \
	found=''; \
done; \
if [ -z "$$found" ]; then \
	echo "Runwire needs Python 3.11, 3.12 or 3.13 with venv. Install one, or name it: make PYTHON=/path/to/python3.11" >&2; \
	exit 1; \
fi
endef

$(INSTALLED): requirements.lock pyproject.toml
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		$(FIND_PYTHON); \
		echo "Making $(VENV) with $$("$$found" --version) and the pinned packages; the first time takes a minute." >&2; \
		"$$found" -m venv --clear $(VENV); \
	fi
	@# Without byte-compiling, which takes longer than all the rest: Python compiles what it imports, once.
	@$(BIN)/python -m pip install -qq --no-deps --no-compile --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@
