# Two commands do everything on a fresh Debian machine (12 and 13):
#   make run    boot both reference guests, check them, print the reports
#   make test   lint, types, every test, live guests included; the model's own must cover all of it
# The second time they only check that all is there.  For both:
#   KVMTOOLS_SOURCE=PATH      a Linux tree or tarball, instead of the distribution's linux-source
#   KVMTOOLS_NO_INSTALL=1     what is missing is only named
# Apart from them:
#   make mutants              is every function of kvmtools/model held by a test?  (a while the first time)
#   make mutants ONLY=layout  ... of the modules with that in their name
#   make matrix               do 5.10, 6.1, 6.12 and 7.2, with PAE and without, agree?  (an hour; their sources come from Debian)
#   make matrix KERNELS='6.12 7.2'           ... of these (what is built is not built again)
#   make matrix MACHINES='64M,2G mem=700M'   ... on these machines, and nothing else
#   make docs                 the reference for scripts, as build/docs/index.html; build/docs/kvmtools.1, the man page
#   make bench                how fast it is
#   make bench-peers          ... beside QEMU's monitor, drgn, and volatility3 (pip install it into .venv, or name a Python that
#                             has it in KVMTOOLS_VOLATILITY)

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test setup lint docs mutants matrix bench bench-peers clean
ONLY :=
KERNELS :=
MACHINES :=
# They visit every state of something small, cover nothing that other tests do not, and take three times as long when traced.
EXHAUSTIVE := $(wildcard tests/model/*/test_*_exhaustive.py)

run: setup
	@echo "make: both guests (their kernels take a few minutes each the first time)"
	$(BIN)/kvmtools run

test: setup lint docs
	$(BIN)/python -m pytest tests/model --cov $(EXHAUSTIVE:%=--ignore=%)
	@echo "make: the two guest kernels (a few minutes each the first time)"
	$(BIN)/kvmtools guest build
	$(BIN)/python -m pytest $(EXHAUSTIVE) tests --ignore=tests/model

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/sphinx-build -q -E -W --keep-going docs build/docs
	$(BIN)/python docs/man_page.py build/docs/kvmtools.1

mutants: $(READY)
	nice $(BIN)/python tests/mutants.py $(ONLY)

matrix: setup
	PYTHONPATH=tests $(BIN)/python -m matrix --machines '$(MACHINES)' $(KERNELS)

bench: setup
	$(BIN)/kvmtools guest build
	$(BIN)/python -m pytest tests/bench -o addopts= --import-mode=importlib --benchmark-columns=min,median,max,rounds

bench-peers: setup
	$(BIN)/kvmtools guest build
	PYTHONPATH=tests:. $(BIN)/python -m peers

setup: programs $(READY)

# What is missing is named with its purpose, and installed where there is apt-get (not with KVMTOOLS_NO_INSTALL=1).
.PHONY: programs
programs:
	@sh qemu/programs.sh

$(READY): pyproject.toml
	@echo "make: creating the virtual environment in $(VENV)"
	python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .benchmarks build mutants .matrix .coverage
