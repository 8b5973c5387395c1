# make install: .venv with twc in it.  make demo: encode and decode a real photograph.  make test: all tests.  make lint.  make man: build/man.  make docs: build/site.  make fuzz MINUTES=n.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test lint man docs fuzz clean

install: $(STAMP)

# torch first and alone: with this range pip takes the CPU build where one lies on disk, and nothing that is resolved
# later can pull a CUDA build of several GB instead.
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check 'torch>=2.6,<2.14' 'numpy>=1.26,<2'
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/python benchmarks/demo.py

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff format --check twcodec tests benchmarks formats docs
	$(BIN)/ruff check twcodec tests benchmarks formats docs
	$(BIN)/mypy

man: install
	$(BIN)/python docs/man.py build/man

docs: install
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo build/site/index.html

# MINUTES for each target. Not part of make test, which has a short run of its own.
MINUTES ?= 1
fuzz: install
	$(BIN)/pip install --quiet --disable-pip-version-check atheris
	for target in container container-repaired range-decoder decode transforms model-file imaging; do \
	  $(BIN)/python tests/fuzz/fuzz_run.py $$target --minutes $(MINUTES) || exit; done

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
