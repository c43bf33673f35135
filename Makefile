# make study        runs the notebooks (PROFILE=default: simulated photographs) into runs/<profile>
# make publish      copies a finished run of the current commit to results/<profile>, and its figures into README.md
# make test         checks the code and runs the quick tests
# make test-all     runs all tests: also long fuzzing, ten kills of a run, large photographs
# make lab          opens the notebooks
# make photographs  downloads 1,648 public photographs by 44 camera models, 4.3 GB; interrupted downloads resume
# make demo         builds the web page and serves it on this machine (needs npm); it uses the model that `identify` would use
# Each first makes the environment, once, with the exact versions of requirements.lock.

PYTHON ?= python3
BIN := .venv/bin
PROFILE ?= default
ARGS ?=
# whole files go to one of two processes, so that a file's costly fixtures are made once; with more threads than cores each
# would wait for the others
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: study publish test test-all lab photographs demo
.DELETE_ON_ERROR:

study: .venv/ready
	$(BIN)/python -m camid_utils.study --profile $(PROFILE) $(ARGS)

publish: .venv/ready
	$(BIN)/python -m camid_utils.study --profile $(PROFILE) --publish $(ARGS)

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -m "not slow" $(ARGS)

test-all: .venv/ready
	$(PYTEST) $(ARGS)

photographs: .venv/ready
	$(BIN)/python -m camid_utils.download photographs --to data/photographs $(ARGS)

demo: .venv/ready
	$(BIN)/python -m camid_utils.identify.page $(ARGS)

lab: .venv/ready
	GOMP_SPINCOUNT=20000 $(BIN)/jupyter lab notebooks

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
