# make study                      the whole job on a synthetic cohort of 53 patients: run-phantom
# make study DATA=dir             on your images, one sub-folder a class: run-dir
# make study DATA=dir OUT=run ARGS="--seed 1"
#                                 another run folder, and options of `meninx study`
# make test                       style, types and tests; make test-all also the slow ones
# make schema                     docs/results.schema.json, when the files of a run change
# make bench                      against fastai, PyTorch and others; needs ../shared/data, hours

PYTHON ?= python3
VENV := .venv
DATA ?= phantom
# The run folder is named after the data: two studies never meet in one folder.
OUT ?= run-$(shell basename -- "$(DATA:/manifest.csv=)" .csv)
ARGS ?=
READY := $(VENV)/.ready

.PHONY: study test test-all schema bench clean

study: $(READY) $(if $(filter-out phantom,$(DATA)),,phantom/manifest.csv)
	$(VENV)/bin/meninx study "$(DATA)" -o "$(OUT)" $(ARGS)

test: $(READY)
	$(VENV)/bin/ruff check src tests benchmarks
	$(VENV)/bin/ruff format --check src tests benchmarks
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 --dist loadfile

test-all: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 --dist loadfile -m ""

schema: $(READY)
	$(VENV)/bin/python -m meninx.results.json_schema > docs/results.schema.json

# Goes on where it stopped: benchmarks/speed.jsonl keeps what was measured.
bench: $(READY)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(VENV)/bin/python -m benchmarks.speed run --draws 5
	$(VENV)/bin/python -m benchmarks.speed table

phantom/manifest.csv: | $(READY)
	$(VENV)/bin/meninx phantom phantom --seed 0

# The stamp is newer than what decides the environment, or the environment is made again.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) phantom run run-*/
