# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Flower asks for older packages, and has an environment of its own: `make flower`. So has the documentation site, which
# is built from sources without PyTorch: `make docs`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
FLOWER := .venv-flower
DOCS   := .venv-docs
export OMP_NUM_THREADS ?= 1

.PHONY: demo test flower test-flower lint docs bench clean

demo: $(READY)
	$(BIN)/onebasin compare studies/digits.toml

test: $(READY)
	$(BIN)/pytest -n 2 --dist worksteal

flower: $(FLOWER)/.ready

test-flower: $(FLOWER)/.ready
	$(FLOWER)/bin/pytest -m "flower and not slow" tests/apps/flower

lint: $(READY)
	$(BIN)/ruff format --check src tests benchmarks docs/site
	$(BIN)/ruff check src tests benchmarks docs/site
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DOCS)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

bench: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --target .bench --upgrade --requirement benchmarks/requirements.txt
	$(BIN)/python -m benchmarks

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $(READY)

$(FLOWER)/.ready: requirements-flower.txt pyproject.toml
	$(PYTHON) -m venv $(FLOWER)
	$(FLOWER)/bin/python -m pip install --quiet --requirement requirements-flower.txt
	$(FLOWER)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

$(DOCS)/.ready: requirements-docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --requirement requirements-docs.txt
	touch $@

clean:
	rm -rf $(VENV) $(FLOWER) $(DOCS) site runs build dist src/*.egg-info
