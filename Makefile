# make study   runs the notebooks on simulated photographs (12 to 13 minutes on two recent cores, 20 to 27 on older ones)
# make test    checks the code and passes all tests
# make lab     opens the notebooks
# make photographs   downloads the real ones, Dresden and FloreView (54 GB and tens more), and goes on where it stopped
# make demo    builds the web page from the newest model under data/ and serves it on this machine (needs npm)
# make regression   reruns a profile in a scratch folder and compares it with the committed results
# Each makes the environment first, once, with the exact versions of requirements.lock.

PYTHON ?= python3
BIN := .venv/bin
PROFILE ?= default
ARGS ?=

.PHONY: study test lab photographs demo regression
.DELETE_ON_ERROR:

study: .venv/ready
	$(BIN)/python -m camid_utils.study --profile $(PROFILE) $(ARGS)

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest $(ARGS)

regression: .venv/ready
	$(BIN)/python -m camid_utils.regression --profile $(PROFILE) $(ARGS)

photographs: .venv/ready
	$(BIN)/python -m camid_utils.download dresden --to data/Dresden $(ARGS)
	$(BIN)/python -m camid_utils.download floreview --to data/FloreView $(ARGS)

demo: .venv/ready
	$(BIN)/python -m camid_utils.demo $(ARGS)

lab: .venv/ready
	$(BIN)/jupyter lab notebooks

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
