# Two commands on a machine with nothing but Python 3.11, make and pip:
#   make demo    trains, tests and reports; says where the report is
#   make test    runs the tests
# Both make their environment in .venv/ first.

PYTHON ?= python3.11
BIN := .venv/bin
RUN := runs/demo
CONFIGS := configs/experiment
PHOTOS := 'from lavindit.data import *; print(*map(bundled_photo, ("astronaut.png", "coffee.png", "chelsea.png")))'

.PHONY: demo test lint wheel clean

demo: .venv/ready
	$(BIN)/lavindit fit --config $(CONFIGS)/demo_vae.yaml
	$(BIN)/lavindit fit --config $(CONFIGS)/demo_jdit.yaml
	$(BIN)/lavindit test --config $(CONFIGS)/demo_jdit.yaml
	for task in colorization inpainting; do \
	  $(BIN)/lavindit apply --task $$task --corrupt --overwrite --model $(RUN)/model --report $(RUN) \
	    --out $(RUN)/photos --query $$($(BIN)/python -c $(PHOTOS)) || exit; \
	done
	$(BIN)/lavindit report $(RUN)
	@echo "the report: $(CURDIR)/$(RUN)/report.html"

test: .venv/ready
	$(BIN)/pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell

wheel: .venv/ready
	$(BIN)/python -m build --wheel

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv runs build dist src/*.egg-info
