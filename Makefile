# Everything here sets up .venv by itself, from requirements.lock, and is quick when nothing changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Another Python means another set-up.
READY := $(VENV)/.ready-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
export RAY_ENABLE_UV_RUN_RUNTIME_ENV := 0
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help demo test unit lint bench lock clean

help:  ## Show the targets.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# The stamp is written last: an interrupted set-up is done again.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "ray_ext needs Python 3.11 or later as $(PYTHON): install it, or say PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv module is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) (a minute or two, once) ..." >&2
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --compile --require-hashes --only-binary :all: \
	  -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

demo: $(READY)  ## Run the main job: three extensions, an orchestrator, real webhooks.
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT INT TERM && RAY_EXT_HOME="$$home" $(BIN)/python examples/orchestrator.py

lint: $(READY)  ## Style, types and import rules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(READY)  ## The tests that need no Ray.
	$(BIN)/pytest tests/unit tests/property

# One pytest run, the quick ones first, so that its last line counts everything; it fails when it collects nothing.
test: lint  ## Every check.
	$(BIN)/pytest $(wildcard $(addprefix tests/,unit property environments security control cli cluster)) examples

bench: $(READY)  ## The numbers of the README.
	for script in calls memory guest_start load many releases resolution cli control; do \
	  $(BIN)/python benchmarks/$$script.py || exit 1; done

lock:  ## Make requirements.lock anew (needs uv).
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --group dev --output-file requirements.lock pyproject.toml

clean:  ## Remove what was set up.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
