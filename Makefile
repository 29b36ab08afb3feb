# make smoke   from nothing to a model that reads its pages, and a report of it (about 10 minutes on 2 cores besides the install)
# make test    from nothing to all tests
# make wheelhouse   what a machine without network needs, but for torch; PYTHON_VERSION=3.12 for another Python than this one
# The first two create .venv first. One thread: the smoke model's matrices are too small for two to be worth waking (docs/journal.md). Another Python: make smoke PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
TEST_PROCESSES ?= 2
EXTRAS := dev,deepseek,evaluate,mix,remote,quantize,optimizers,dashboard
PYTHON_VERSION ?= $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

.PHONY: setup smoke test test-slow lint debian-packages wheelhouse clean

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13. Name one that is: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

smoke: setup
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m train.recipe recipe=smoke
	@echo "The report: $(CURDIR)/runs/smoke/report.html"

test: debian-packages lint
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

test-slow: debian-packages setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

debian-packages:
	@.ci/debian-packages

wheelhouse:
	@PYTHON=$(PYTHON) .ci/wheelhouse $(PYTHON_VERSION)

clean:
	rm -rf .venv wheelhouse build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
