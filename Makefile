# Two commands on a machine with nothing but Python 3.11, make and pip:
#   make demo    tests the model that comes with the package, answers photographs, reports; says where the report is
#   make test    runs the tests
# make train-nano trains, tests and reports a small model of your own, in 20 minutes on two CPU cores.
# All make their environment in .venv/ first.

PYTHON ?= python3.11
BIN := .venv/bin
RUN := runs/demo_report
NANO := runs/demo
CONFIGS := configs/experiment
TASKS := colorization inpainting deraining glass_deblurring motion_deblurring edge_detection
PHOTOS := 'from lavindit.data import *; save_bundled_stereo("$(RUN)/stereo"); \
  print(*map(bundled_photo, ("astronaut.png", "coffee.png", "chelsea.png")))'

.PHONY: demo train-nano test lint wheel clean

demo: .venv/ready
	$(BIN)/lavindit benchmark quick --n 12 --draws 1 --workers 2 --model nano --out $(RUN) --restart
	photos=$$($(BIN)/python -c $(PHOTOS)) || exit; \
	$(BIN)/lavindit apply $(TASKS:%=--task %) --corrupt --overwrite --model nano --report $(RUN) --out $(RUN)/photos \
	  --query $$photos
	$(BIN)/lavindit apply --task depth_estimation --overwrite --model nano --report $(RUN) --out $(RUN)/photos \
	  --query $(RUN)/stereo/motorcycle.png --truth $(RUN)/stereo/motorcycle_depth.npy
	$(BIN)/lavindit report $(RUN)
	@echo "the report: $(CURDIR)/$(RUN)/report.html"

train-nano: .venv/ready
	$(BIN)/lavindit fit --config $(CONFIGS)/demo_vae.yaml
	$(BIN)/lavindit fit --config $(CONFIGS)/demo_jdit.yaml
	$(BIN)/lavindit test --config $(CONFIGS)/demo_jdit.yaml
	$(BIN)/lavindit report $(NANO)

# As many processes as there are cores; a file's tests stay together, so that what they share is made once.
test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadfile

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
