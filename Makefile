# make study                      the whole job on a synthetic cohort of 53 patients
# make study DATA=dir OUT=run     on your images: one sub-folder a class
# make test                       style, types and tests; make test-all also the slow ones
# make bench                      against fastai, PyTorch and others; needs ../shared/data, hours

PYTHON ?= python3
VENV := .venv
DATA ?= phantom
OUT ?= run
READY := $(VENV)/.ready

.PHONY: study test test-all bench clean

study: $(READY) $(if $(filter phantom,$(DATA)),phantom/manifest.csv)
	$(VENV)/bin/meninx study $(DATA) -o $(OUT)

test: $(READY)
	$(VENV)/bin/ruff check src tests benchmarks
	$(VENV)/bin/ruff format --check src tests benchmarks
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest

test-all: $(READY)
	$(VENV)/bin/pytest -m ""

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
	rm -rf $(VENV) phantom run
