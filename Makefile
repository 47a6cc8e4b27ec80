# Two commands do everything on a machine that has python3 (3.11 or newer) and make:
#   make demo    two trained networks, every matrix of their layers, a table and a figure
#   make test    style, types and the whole test suite

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test train bench power hostile clean

help:
	@sed -n '2,3s/^#   //p' Makefile
	@echo "make train   SGD, Adam, KFAC and EKFAC on digits, equally tuned: ten minutes"
	@echo "make bench   speed beside other libraries, memory, agreement with a plain loop"
	@echo "make power   every mutant against every law, to docs/mutants.md and README.md: an hour or two"
	@echo "make hostile subjects that do their worst, by the real command, to docs/hostile.md: ten minutes"
	@echo "make clean   remove the virtual environment and what the commands wrote"

# The notebook is known not to conform (exit code 1); the demo fails if it does.
demo: .venv/installed
	$(BIN)/python -m studies.demo
	$(BIN)/ekfac-ref check ekfac_ref.examples:hooks --profile demo --report demo/hooks.html
	$(BIN)/ekfac-ref check ekfac_ref.examples:notebook --profile demo --report demo/notebook.html; test $$? = 1

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2
	$(BIN)/pytest -n 2 -m shapes --jaxtyping-packages=ekfac_ref,beartype.beartype

train: .venv/installed
	$(BIN)/python -m studies.training

bench: .venv/benchable
	$(BIN)/python -m studies.speed
	$(BIN)/python -m tests.support.agreement

power: .venv/installed
	$(BIN)/python -m studies.power

hostile: .venv/installed
	$(BIN)/python -m tests.support.hostile

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[pytest,report,demo,dev]'
	@touch $@

.venv/benchable: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $@

clean:
	rm -rf .venv demo train .hypothesis .mypy_cache .ruff_cache *.egg-info
