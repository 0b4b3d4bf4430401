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
# Of these, what the instructions of the processor do not decide: words and refusals, files, counts, and processes that end; a run
# beside the same run (resumed, given in objects, on a pretended accelerator); what numpy or Pillow draws; that it learns.
ALIKE := bench/scenes_bench core/ambient core/quiet core/settings engine/checkpoint engine/device \
	engine/processes environments/control golden/texts models/fields models/honoured models/on_cuda run/bad_input run/check \
	run/claim run/damaged run/feedback_page run/gan run/keys_fuzz run/matrix run/memory_resume \
	run/model_settings run/notebook run/objects run/on_cuda run/outputs run/own_code run/own_reward run/pairs \
	run/recipes run/resume run/rounds run/tastes run/third_party training/asynchronous \
	training/deadline training/footprint training/kinds training/workload worlds/emoji_grammar worlds/motion \
	worlds/scenes_grammar worlds/scenes_render worlds/words_grammar worlds/words_render worlds/words_world
# Tests narrow no types; that their calls fit what they call is checked, for a renamed argument is found in seconds so.
FREE_IN_TESTS := arg-type assignment attr-defined call-overload dict-item func-returns-value index list-item \
	method-assign misc operator return-value type-var union-attr unused-ignore var-annotated
# Neighbours share what is made once for a file: a worker keeps its half of the tests, and the one that ends first helps.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.PHONY: setup demo test numbers lint types types-of-code types-of-tests wheel clean

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
	$(PYTEST) $(ARGS)

numbers: $(READY)
	$(PYTEST) $(addprefix tests/,$(NUMBERS)) $(foreach file,$(ALIKE),--ignore=tests/$(dir $(file))test_$(notdir $(file)).py) $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: types-of-code types-of-tests

types-of-code: $(READY)
	$(BIN)/mypy src/limner benchmarks examples

# A cache of their own: under other options mypy reads all of torch anew.
types-of-tests: $(READY)
	MYPYPATH=src:tests:tests/third_party:examples $(BIN)/mypy --cache-dir .mypy_cache/tests --explicit-package-bases --check-untyped-defs \
		$(addprefix --disable-error-code=,$(FREE_IN_TESTS)) tests

wheel: $(READY)
	rm -rf build
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache src/*.egg-info
