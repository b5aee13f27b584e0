# Everything from a fresh clone: each target does its own set-up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRACE ?=
TOPOLOGIES ?=
FOR ?= 30m
JOBS ?= 2
START ?= 1000
REQUESTS ?= 10000
FRAMES ?= 10000
MINUTES ?= 60
ONLY ?=

.PHONY: demo test lint docs laws simulate faults bench bench-quick bench-first bench-store bench-partition bench-feed bench-replication planted sessions hostile soak clean help

help:            ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */ — /'

demo: $(VENV)/user          ## three regions, one partition, one answer (TRACE=FILE replays a commit history)
	$(BIN)/crdtdb demo $(if $(TRACE),--trace $(TRACE))

test: $(VENV)/dev           ## all tests that CI runs
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

lint: $(VENV)/dev           ## style, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/dev           ## the documentation site, in build/docs/site
	$(BIN)/python docs/build.py build/docs

laws: $(VENV)/dev           ## every law with 2,000 examples
	$(BIN)/python -m pytest -n 2 -q tests/laws --examples 2000

bench: $(VENV)/bench        ## every figure, beside its comparator (build/bench/index.html; ONLY=name: one benchmark)
	$(BIN)/python benchmarks/all.py $(if $(ONLY),--only $(ONLY))

bench-quick: $(VENV)/bench  ## the same in less than five minutes, rough
	$(BIN)/python benchmarks/all.py --quick $(if $(ONLY),--only $(ONLY))

bench-first: $(VENV)/dev    ## the ratios of the first slice
	$(BIN)/python benchmarks/first_slice.py

bench-store: $(VENV)/dev    ## the log in front of LMDB against LMDB alone
	$(BIN)/python benchmarks/append_first.py

bench-partition: $(VENV)/bench   ## five broken networks, measured, checked and drawn (build/partition.png)
	mkdir -p build
	$(BIN)/python benchmarks/partition.py --json build/partition.json --picture build/partition.png

bench-feed: $(VENV)/dev     ## 50,000 records through one stream, 500 idle readers
	$(BIN)/python benchmarks/feed.py

bench-replication: $(VENV)/dev   ## records and bytes against the least that could be sent (TOPOLOGIES=FILE: published overlays)
	$(BIN)/python benchmarks/replication.py $(if $(TOPOLOGIES),--topologies $(TOPOLOGIES))

simulate: $(VENV)/dev       ## whole clusters under faults, seed by seed (FOR=30m JOBS=2 START=1000)
	$(BIN)/python tests/simulation --for $(FOR) --jobs $(JOBS) --start $(START)

faults: $(VENV)/dev         ## real processes killed, stopped, cut off; disks full and broken; clocks moved (root for some)
	$(BIN)/python -m pytest tests/faults --long -n 0 -q -s -rs

soak: $(VENV)/dev           ## three replicas in steady use, and what grows (MINUTES=60)
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

planted: $(VENV)/dev        ## every planted mistake, and what noticed it
	$(BIN)/python tests/planted

sessions: $(VENV)/dev       ## 100,000 operations by sessions that hop under flapping links
	$(BIN)/python tests/sessions --operations 100000

hostile: $(VENV)/dev        ## 10,000 requests by schemathesis, 10,000 changed frames (REQUESTS=10000 FRAMES=10000 START=1000)
	$(BIN)/python tests/hostile --requests $(REQUESTS) --frames $(FRAMES) --seed $(START)

$(VENV)/user: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/dev: pyproject.toml $(VENV)/user
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

$(VENV)/bench: pyproject.toml $(VENV)/dev
	$(BIN)/python -m pip install --quiet --group bench
	touch $@

clean:           ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
