# make setup: .venv with the project and all that tests need.  make demo: the whole question, on the lab models.
# make test, make typed, make stanford, make lint, make bench, make docs set up first if need be.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WORKERS := -n 2 --dist worksteal

# The tests of the tiny GPT-2 that a change of its scores could break.
GPT2_TESTS := tests/test_oracles.py $(addprefix tests/,$(addsuffix .py,models/test_hooks models/test_bridge_habits \
	network/test_network scores/test_scores patching/test_patching ablation/test_ablation))

.PHONY: setup demo test typed stanford lint bench docs clean

setup: $(READY)

# torch first and pinned: anything looser brings gigabytes of CUDA to machines without a GPU.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "neolens needs Python 3.11 to 3.13: make setup PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

demo: $(READY)
	$(BIN)/python -m experiments.compare

# Two processes, each on one core; typed also checks every array's shape and dtype at run time, as CI does.
test typed stanford: export OMP_NUM_THREADS = 1

test: $(READY)
	$(BIN)/python -m pytest $(WORKERS)

typed: $(READY)
	$(BIN)/python -m pytest $(WORKERS) --jaxtyping-packages=neolens,beartype.beartype
	$(BIN)/python -m pytest $(WORKERS) -m untyped

# With the attention of Stanford's GPT-2 runs: scores divided by layer + 1, in float32.
stanford: $(READY)
	NEOLENS_TINY_GPT2=stanford $(BIN)/python -m pytest $(WORKERS) -k gpt2 $(GPT2_TESTS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks.loading
	$(BIN)/python -m benchmarks.attention
	$(BIN)/python -m benchmarks.patching
	$(BIN)/python -m benchmarks.ablation
	$(BIN)/python -m benchmarks.views
	$(BIN)/python -m benchmarks.whole
	$(BIN)/python -m benchmarks.checks
	$(BIN)/python -m benchmarks.interrupted

# Strictly, with nothing to say, and then looked at in a browser without a network. The variable: Material for MkDocs
# prints a note about its successor, which is not about these pages.
docs: $(READY)
	@echo "building site/ (a minute or two)"
	@said=$$(NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet 2>&1) && test -z "$$said" || \
		{ echo "$$said" >&2; exit 1; }
	$(BIN)/python -m pytest tests/test_site.py

clean:
	rm -rf .venv
