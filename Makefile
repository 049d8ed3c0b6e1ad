# Playhead's tasks. `make` alone lists them; each sets up .venv first where it has to.

WORKSPACE ?= ./workspace
DATA ?=
KEEP ?=
EVENTS ?= 1000000
PYTHON ?=
# Three on two cores, as many tests wait for processes more than they compute.
PYTEST_ARGS ?= -n 3 --dist worksteal
# Two: each process starts servers of its own.
CLUSTER_ARGS ?= -n 2 --dist loadfile
BENCH_ARGS ?=
ARGS ?=
LOCK_ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed
CLUSTER := .venv/.cluster
NEEDS_3_11 := import sys; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.PHONY: help setup setup-cluster demo cluster-demo test test-slow test-cluster test-cluster-slow torture torture-live torture-cluster check bench docs lock clean

help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything into .venv (PYTHON=... chooses the Python)

setup-cluster: $(CLUSTER) ## Install what a cluster's tests and demo need besides (Spark: 430 MB)

demo: $(STAMP) ## Show the platform on generated data, or on DATA=dir; KEEP=1 goes on serving
	@$(BIN)/playhead -w "$(WORKSPACE)" demo $(if $(DATA),--data "$(DATA)") \
	  $(if $(KEEP),$(if $(filter 0,$(KEEP)),--no-keep,--keep))

cluster-demo: $(CLUSTER) ## The same views on a broker, Spark and a store of its own, compared (DATA, EVENTS, KEEP)
	@$(BIN)/playhead -w "$(WORKSPACE)-cluster" demo --cluster $(if $(DATA),--data "$(DATA)") \
	  --events $(EVENTS) $(if $(filter-out 0,$(KEEP)),--keep)

test: $(STAMP) ## Run the tests (PYTEST_ARGS="-n 3")
	@$(BIN)/python -m pytest -m "not slow and not cluster" $(PYTEST_ARGS)

test-slow: $(STAMP) ## Run the tests that take minutes
	@$(BIN)/python -m pytest -m "slow and not cluster" $(PYTEST_ARGS)

test-cluster-slow: $(CLUSTER) ## Run those of them that take minutes each
	@$(BIN)/python -m pytest -m "cluster and slow" $(CLUSTER_ARGS)

test-cluster: $(CLUSTER) ## Run the tests on real brokers, Spark, stores (Java, Maven, PostgreSQL)
	@$(BIN)/python -m pytest -m "cluster and not slow" $(CLUSTER_ARGS)

torture: $(STAMP) ## Kill the processes of workspaces a thousand times (ARGS="--kills N --seed N")
	@PYTHONPATH=tests $(BIN)/python -m torture $(ARGS)

torture-live: $(STAMP) ## Kill the processes of a running platform (ARGS="--kills N --seed N")
	@PYTHONPATH=tests $(BIN)/python -m live_torture $(ARGS)

torture-cluster: $(CLUSTER) ## Kill brokers, stores and layers of a cluster (ARGS="--rounds N --seed N")
	@PYTHONPATH=tests $(BIN)/python -m cluster_torture $(ARGS)

check: $(STAMP) ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(CLUSTER) ## Measure everything against its peers, at sizes that take minutes
	@for name in $$($(BIN)/python -c "import benchmarks; print(*benchmarks.NAMES)"); do \
	  $(BIN)/playhead bench $$name $(BENCH_ARGS) || exit 1; \
	done

docs: $(STAMP) ## Write docs/commands.md anew from the commands' own help
	@$(BIN)/typer playhead.cli utils docs --name playhead --output docs/commands.md

lock: ## Write constraints.txt anew from pyproject.toml (LOCK_ARGS=--upgrade); needs uv
	@uv=$$(command -v uv || command -v $(BIN)/uv) || { \
	  echo "make lock needs uv: install it, or run $(BIN)/python -m pip install uv" >&2; exit 1; }; \
	lock="$$uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --group dev"; \
	$$lock --extra pandas --extra polars --custom-compile-command "make lock" \
	  $(LOCK_ARGS) --output-file constraints.txt pyproject.toml; \
	$$lock --all-extras --group cluster --constraints constraints.txt \
	  --custom-compile-command "make lock" $(LOCK_ARGS) \
	  --output-file constraints-cluster.txt pyproject.toml

clean: ## Remove .venv, caches and builds (never a workspace)
	rm -rf .venv build dist site .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A virtual environment that is there and new enough is kept; packages come by their hashes.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	if ! $(BIN)/python -c '$(NEEDS_3_11)' 2>/dev/null; then \
	  python=; \
	  for name in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	    if "$$name" -c '$(NEEDS_3_11)' 2>/dev/null; then python=$$name; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "Playhead needs Python 3.11 or newer, and there is none on PATH." >&2; \
	    echo "Install one, or name it: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  echo "Making .venv with $$("$$python" --version) ..."; \
	  if command -v uv >/dev/null; then \
	    uv venv --quiet --clear --python "$$("$$python" -c 'import sys; print(sys.executable)')" .venv; \
	  elif ! "$$python" -m venv --clear .venv; then \
	    rm -rf .venv; \
	    echo "$$python cannot make virtual environments (Debian: apt-get install python3-venv)." >&2; \
	    exit 1; \
	  fi; \
	fi; \
	echo "Installing packages into .venv ..."; \
	if command -v uv >/dev/null; then \
	  install="uv pip install --quiet --compile-bytecode --python $(BIN)/python"; \
	else \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	  install="$(BIN)/python -m pip install --quiet --disable-pip-version-check"; \
	fi; \
	$$install --require-hashes -r constraints.txt; \
	$$install --no-deps --no-build-isolation --editable .; \
	touch $@

$(CLUSTER): $(STAMP) constraints-cluster.txt
	@set -e; \
	echo "Installing what a cluster needs into .venv ..."; \
	if command -v uv >/dev/null; then \
	  install="uv pip install --quiet --compile-bytecode --python $(BIN)/python"; \
	else \
	  install="$(BIN)/python -m pip install --quiet --disable-pip-version-check"; \
	fi; \
	$$install --require-hashes -r constraints-cluster.txt; \
	touch $@
