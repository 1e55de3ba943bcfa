# Everything is installed into .venv by the targets that need it, from the package registries alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 4
DEMO ?= demo
ROUTES ?=
BASE ?= HEAD
MUTATE ?= decide phases

SOAK_ROUNDS ?= 100
SOAK_SECONDS ?= 0
SOAK_EXAMPLES ?= 2000
SOAK_ENGINE ?=

.PHONY: demo test test-all soak mutate bench bench-check docs pictures site dist lint fmt clean
.DELETE_ON_ERROR:

$(VENV)/installed: pyproject.toml
	@echo "installing reconcile and what it needs into $(VENV): a minute or two, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

# A PostgreSQL server comes from the system where there is one, else from a wheel. Chromium, which opens the HTML pages
# in the tests, and promtool, which checks metrics, come from Debian where we are root there; else those are skipped.
$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing what the tests need: a few minutes, once"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	if ! $(BIN)/python tests/servers/postgresql.py --find > /dev/null; then \
		$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[postgres]'; fi
	if ! $(BIN)/python tests/servers/chromium.py --find > /dev/null && command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
		> /dev/null || echo "no Chromium could be installed: the tests of the HTML pages are skipped"; fi
	if ! command -v promtool > /dev/null && command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus; } \
		> /dev/null 2>&1 || echo "no promtool could be installed: the tests of the alert rules are skipped"; fi
	if command -v npm > /dev/null; then \
		npm install --silent --no-fund --no-audit --prefix $(VENV)/node axe-core@4 \
		|| echo "no axe-core could be installed: the tests of the HTML pages' accessibility are skipped"; fi
	touch $@

demo: $(VENV)/installed
	$(BIN)/python -m examples.demo $(DEMO)

test: $(VENV)/installed-dev
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m 'not matrix'

# What `make test` leaves out because it takes longer.
test-all: $(VENV)/installed-dev
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m matrix

# Kills and pauses at random moments, and random histories: SOAK_SECONDS=3600 goes on for an hour, and
# SOAK_ENGINE=processes:3 has three workers at it.
soak: $(VENV)/installed-dev
	SOAK_ROUNDS=$(SOAK_ROUNDS) SOAK_SECONDS=$(SOAK_SECONDS) SOAK_EXAMPLES=$(SOAK_EXAMPLES) SOAK_ENGINE=$(SOAK_ENGINE) \
		$(BIN)/pytest -n $(JOBS) -rP tests/crash/test_random.py tests/crash/test_state_machine.py \
		tests/crash/test_two_places.py tests/faults/test_hostile.py

# Small changes to what decides where a document belongs, and to the phases that change the catalog and delete sources:
# a test is to notice each. They are made in a copy. MUTATE=decide is a matter of minutes, phases of hours.
mutate: $(VENV)/installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check 'cosmic-ray>=8.3'
	rm -rf .mutated && mkdir .mutated
	git ls-files -co --exclude-standard | tar cf - -T - | tar xf - -C .mutated
	for what in $(MUTATE); do ( cd .mutated && \
		../$(BIN)/cosmic-ray init tests/mutation/$$what.toml $$what.sqlite && \
		../$(BIN)/cr-filter-operators $$what.sqlite tests/mutation/$$what.toml && \
		../$(BIN)/cosmic-ray exec tests/mutation/$$what.toml $$what.sqlite && \
		../$(BIN)/cr-report --surviving-only --show-diff $$what.sqlite ) || exit; done

# Each route beside a serial reference and a bare ceiling; ROUTES="'db to s3'" measures one.
bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.routes $(ROUTES)
	if [ -z "$(ROUTES)" ]; then $(BIN)/python -m benchmarks.steps && $(BIN)/python -m benchmarks.start && $(BIN)/python -m benchmarks.watching; fi

# What a document costs, in calls, beside another commit: BASE=HEAD~1. It needs no quiet machine.
bench-check: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.check $(BASE)

# The command reference, from the help texts.
docs: $(VENV)/installed
	$(BIN)/python -m reconcile.cli.reference > docs/commands.md

# The pictures of the docs, from what the program shows of the example archive; they need Chromium.
pictures: $(VENV)/installed
	$(BIN)/python -m docs.recording docs/pictures

# What builds the site has an environment of its own: none of it is needed to run reconcile or its tests, but the API
# reference is of what is installed. mermaid-cli draws diagrams; 11 is the last one for the Node.js of Debian.
$(VENV)/site/installed: docs/requirements.txt pyproject.toml
	@echo "installing what builds the site into $(VENV)/site: a few minutes, once"
	$(PYTHON) -m venv $(VENV)/site
	$(VENV)/site/bin/pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt --editable .
	if command -v npm > /dev/null; then \
		PUPPETEER_SKIP_DOWNLOAD=1 npm install --silent --no-fund --no-audit --prefix $(VENV)/site/node \
		@mermaid-js/mermaid-cli@11.17.0 puppeteer@24.43.1 \
		|| echo "no mermaid-cli could be installed: the site shows the source of its diagrams"; fi
	touch $@

# The documentation site, in build/site: any warning fails it.
site: $(VENV)/site/installed
	rm -rf build/site
	$(VENV)/site/bin/sphinx-build --fresh-env --fail-on-warning --keep-going --quiet --doctree-dir build/doctrees docs build/site
	@echo "the site is in build/site: open build/site/index.html"

# What makes a release has an environment of its own: none of it is needed to run reconcile or its tests.
$(VENV)/release/installed: release/requirements.txt
	$(PYTHON) -m venv $(VENV)/release
	$(VENV)/release/bin/pip install --quiet --disable-pip-version-check -r release/requirements.txt
	touch $@

# A release: docs/releases.md says what is in it.
dist: $(VENV)/release/installed
	rm -rf dist
	$(VENV)/release/bin/python -m release.dist dist

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vulture
	$(BIN)/python -m docs.prose

fmt: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .mutated $(VENV) $(DEMO) $(DEMO)-[0-9]* dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
