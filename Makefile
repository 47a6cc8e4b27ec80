# Two commands do everything on a machine that has python3 (3.10 or newer) and make:
#   make demo    two trained networks, every matrix of their layers, a table and a figure
#   make test    style, types and the whole test suite

PYTHON ?= python3
PYTHON_LOWEST ?= python3.10
BIN := .venv/bin

.PHONY: help demo test test-lowest models numerics hostile train bench power peers clean

help:
	@sed -n '2,3s/^#   //p' Makefile
	@echo "make train   SGD, Adam, KFAC and EKFAC on digits, equally tuned: five minutes"
	@echo "make bench   speed beside other libraries, and memory, to docs/speed.md: half an hour"
	@echo "make models   networks of transformers and torchvision, small and random, by explicit loops"
	@echo "make power   every mutant against every law, to docs/mutants.md and README.md: half an hour"
	@echo "make hostile subjects that do their worst, by the real command, to docs/hostile.md: ten minutes"
	@echo "make peers   released libraries, each in an environment of its own, to docs/peers.md"
	@echo "make numerics   the suite and correct subjects under other kernels: an hour"
	@echo "make test-lowest   the suite on the lowest versions, with $(PYTHON_LOWEST)"
	@echo "make clean   remove the virtual environment and what the commands wrote"

# The notebook is known not to conform (exit code 1); the demo fails if it does.
demo: .venv/installed
	$(BIN)/python -m studies.demo
	$(BIN)/ekfac-ref check ekfac_ref.examples:hooks --profile demo --report demo/hooks.html
	$(BIN)/ekfac-ref check ekfac_ref.examples:notebook --profile demo --report demo/notebook.html; test $$? = 1

# Shapes are checked in the files that have tests of them: to import all takes twice as long then.
test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist worksteal
	$(BIN)/pytest -n 2 --dist worksteal -m shapes --jaxtyping-packages=ekfac_ref,beartype.beartype \
		$$(grep -rl --include='test_*.py' 'mark\.shapes' tests)

test-lowest: .venv-lowest/installed
	.venv-lowest/bin/pytest -n 2 --dist worksteal

models: .venv-models/installed
	.venv-models/bin/pytest tests_models

numerics: .venv/installed
	$(BIN)/python -m studies.numerics

train: .venv/installed
	$(BIN)/python -m studies.training

bench: .venv/benchable
	$(BIN)/python -m studies.speed
	$(BIN)/python -m tests.support.agreement

power: .venv/installed
	$(BIN)/python -m studies.power

peers: .venv/installed
	$(BIN)/python -m peers

hostile: .venv/installed
	$(BIN)/python -m tests.support.hostile

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv-lowest/installed: pyproject.toml constraints-lowest.txt
	$(PYTHON_LOWEST) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --no-compile --constraint constraints-lowest.txt --editable '.[test]'
	@touch $@

.venv-models/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-models
	.venv-models/bin/pip install --quiet --no-compile --constraint constraints.txt --editable '.[models]'
	@touch $@

.venv/benchable: .venv/installed
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[bench]'
	@touch $@

clean:
	rm -rf .venv .venv-lowest .venv-models .venv-peers demo train .hypothesis .mypy_cache .ruff_cache *.egg-info
