PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install check test faults soak demo showcase clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pytest -m 'not slow and not gpu'

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pytest -m 'not gpu'

faults: install
	$(BIN)/python -m benchmarks.faults

soak: install
	$(BIN)/python -m benchmarks.soak

demo: install
	$(BIN)/python jobs/demo.py

showcase: install
	$(BIN)/python jobs/showcase.py

clean:
	rm -rf $(VENV) *.egg-info
