# `make demo` and `make test` set everything up first. Variables:
#   PYTHON       the Python (>= 3.11) that builds .venv
#   TORCH_INDEX  an extra package index with CPU builds of torch, where the plain one would give a CUDA build
#   ARGS         more arguments for `limner train scenes` (demo) or pytest (test)
PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NUMBERS := algorithms bench core diffusion engine environments evaluate golden learning models objectives policies rollout run training worlds
# Of `run`, what compares words alone, which are the same on every processor.
WORDS := bad_input claim damaged feedback_page keys_fuzz outputs
# Tests narrow no types; that their calls fit what they call is checked, for a renamed argument is found in seconds so.
FREE_IN_TESTS := arg-type assignment attr-defined call-overload dict-item func-returns-value index list-item \
	method-assign misc operator return-value type-var union-attr unused-ignore var-annotated
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: setup demo test numbers lint types wheel clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "limner needs Python 3.11 or newer; say which: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing into $(VENV): some minutes the first time'
	$(BIN)/python -m pip install -q $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/limner train scenes $(ARGS)

test: lint types
	$(ONE_THREAD) HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(JOBS) $(ARGS)

numbers: $(READY)
	$(ONE_THREAD) HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(JOBS) $(addprefix tests/,$(NUMBERS)) $(WORDS:%=--ignore=tests/run/test_%.py) $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy src/limner benchmarks examples
	MYPYPATH=src:tests:tests/third_party:examples $(BIN)/mypy --explicit-package-bases --check-untyped-defs \
		$(addprefix --disable-error-code=,$(FREE_IN_TESTS)) tests

wheel: $(READY)
	rm -rf build
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache src/*.egg-info
