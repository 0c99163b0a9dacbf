PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_ARGS ?=
TEST_ARGS ?=

GPU_ARGS ?= --compile

.PHONY: env demo report test test-openmmlab gpu lint docs lock clean

env: $(VENV)/.installed

# uv installs the pinned, hashed list in well under a minute; pip only brings uv.
$(VENV)/.installed: requirements/lock.txt requirements/bootstrap.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 10) else "Python >= 3.10 is needed. Found %d.%d. Run: make PYTHON=/path/to/python3.11" % v)'
	@$(PYTHON) -m venv $(VENV) || { echo 'Could not create $(VENV). On Debian and Ubuntu install the package python3-venv, then run make again.'; exit 1; }
	@echo 'Installing the pinned packages into $(VENV) ...'
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements/lock.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: env
	@$(BIN)/python tools/demo.py $(DEMO_ARGS)

# Two short trainings and the page on them.
report: env
	@$(BIN)/python tools/sweep.py sweeps/quick.py --work-dir work_dirs/report/runs --jobs 2
	@$(BIN)/python tools/report.py work_dirs/report/runs/trials --out work_dirs/report/page --title 'Two quick runs' --size 128x256

test: env
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(TEST_ARGS)

# The suite on OpenMMLab's own packages; what needs the compiled mmcv is skipped.
test-openmmlab: env
	@$(PYTHON) -m venv .venv-openmmlab
	@grep -v '^onedl-' requirements/lock.in > .venv-openmmlab/requirements.txt
	@$(BIN)/uv pip install -q --python .venv-openmmlab/bin/python -r .venv-openmmlab/requirements.txt -e '.[openmmlab]'
	.venv-openmmlab/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(TEST_ARGS)

# On a machine with a CUDA device: the tests that need one, and the figures. The one goes on where the other fails.
gpu: env
	@mkdir -p work_dirs/gpu
	$(BIN)/python -m pytest -n 0 -m cuda $(TEST_ARGS); tested=$$?; \
	$(BIN)/python tools/analysis_tools/benchmark.py gpu --repeats 5 --json work_dirs/gpu/gpu.json --markdown work_dirs/gpu/gpu.md $(GPU_ARGS) && exit $$tested

lint: env
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

# Without the variable the theme advertises its successor.
docs: env
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lock:
	uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-header --no-annotate --no-emit-index-url requirements/lock.in -o requirements/lock.txt

clean:
	rm -rf $(VENV) .venv-openmmlab build site *.egg-info
