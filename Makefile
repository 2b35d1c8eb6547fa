# The ways in: `make demo` shows all of pairloom at work, `make test` proves it. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
LOOKED_AT := pairloom schemas formats demo stages devices trainer systems evaluation inspection pipeline install benchmarks tests

# dvc.yaml calls `pairloom`, so the environment's own programs come first. pip need not look for newer pips.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Every command and worker is a process of its own: without kept bytecode each spends ten seconds compiling torch.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test test-long lint bench recipes report site release clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

venv: $(INSTALLED) ## build .venv with everything in it (demo, test and the others do it by themselves)

$(INSTALLED): pyproject.toml constraints.txt install/pure_detectron2.py
	@command -v "$(PYTHON)" >/dev/null || { \
	    echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or name yours: make $(or $(MAKECMDGOALS),venv) PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "pairloom needs Python 3.11 or newer; $(PYTHON) is $$("$(PYTHON)" -V 2>&1). Name another: make $(or $(MAKECMDGOALS),venv) PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@echo 'installing pairloom and what it needs into .venv: some minutes, most of them torch'
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[all,dev]'
	$(BIN)/pairloom setup detectron2
	@$(BIN)/python -m pip check
	@touch $@

demo: $(INSTALLED) ## take the sample through every stage: pictures to shards to a training step
	@$(BIN)/dvc repro
	@echo
	@echo "report:  $(CURDIR)/data/report/index.html"
	@echo "shards:  $(CURDIR)/data/shards"

# A process a core, each with whole files, so that what a module sets up is set up once. ARGS="-n 0 ..." does without.
test: $(INSTALLED) ## run the whole test suite
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

# The tutorials and how-tos from their pages alone, and the longest runs of DVC, wheel and workers: 12 minutes.
test-long: ARGS += -m long
test-long: test

lint: $(INSTALLED) ## ruff, mypy, and the words of docs/
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m tests.words

bench: $(INSTALLED) ## run every script of benchmarks/, each against a named peer
	@for script in benchmarks/[a-z]*.py; do \
	    echo "== $$script"; $(BIN)/python -m "benchmarks.$$(basename "$$script" .py)" || exit 1; done

# Systems that read pixels have a variant of their own, on more scenes. A hybrid ViT is trained first, starts vilt.
# e2e_vlp is trained on both: only the fewer scenes have the regions that it finds.
PIXELS := align clip e2e_vlp mlim mural pixelbert simvlm soho vilt vit
OTHERS = $(filter-out $(filter-out e2e_vlp, $(PIXELS)), $(basename $(notdir $(wildcard systems/recipes/*.yaml))))
TABLE = $(BIN)/pairloom recipe table --write docs/lab/systems.md
recipes: $(INSTALLED) ## train every recipe at size tiny on composed scenes and write the table of docs/lab/systems.md
	@test -f data/recipes/shards/_pairloom/manifest.json || $(BIN)/pairloom run --params params.recipes.yaml --out data/recipes
	@test -f data/pixels/shards/_pairloom/manifest.json || $(BIN)/pairloom run --params params.pixels.yaml --out data/pixels
	@$(TABLE) $(OTHERS) --shards data/recipes/shards
	@$(TABLE) $(filter-out vilt, $(PIXELS)) --variant pixels --shards data/pixels/shards
	@$(BIN)/pairloom checkpoint convert data/recipes/models/vit data/pixels/vit --as "ViT (transformers)" >/dev/null
	@$(TABLE) vilt --variant pixels --shards data/pixels/shards --init data/pixels/vit

report: $(INSTALLED) ## write the report again and say where it is
	@$(BIN)/pairloom report

site: $(INSTALLED) ## build the pages of docs/ into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site: $(CURDIR)/build/site/index.html"

# A file that an earlier build left in build/lib would be packed, too.
release: $(INSTALLED) ## build the wheel into dist/, and the image where docker runs
	@rm -rf build/lib dist
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl
	@if docker info >/dev/null 2>&1; then docker build --quiet --tag pairloom .; \
	    else echo "docker does not run here, so no image was built"; fi

clean: ## remove what runs and tools made; .venv stays
	rm -rf data metrics models plots dvc_plots build dist .dvc/cache .dvc/tmp .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(wildcard $(LOOKED_AT)) -name __pycache__ -type d -prune -exec rm -rf {} +
