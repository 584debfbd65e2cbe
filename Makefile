# One command each, on a bare machine with Python ≥ 3.11 and make:
#   make run    the dashboard, on an embedded collector and a probe of this machine   (TORCH=0 leaves torch out)
#   make test   lint, types, import contracts and all tests
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= 1
BIN    := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Hundreds of processes start in a run of the tests: each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

ifeq ($(TORCH),0)
RUN_EXTRAS := .[quic]
else
RUN_EXTRAS := .[torch,fast,quic]
endif
TEST_EXTRAS := .[torch,test]


.PHONY: release-pins try-wheel audit mutants
.PHONY: run test prepare programs lint types contracts bytecode pytest bench docs reference dist pictures clean

run: $(VENV)/.installed-run-$(TORCH)
	@$(BIN)/swarmtop

test:
	@$(MAKE) --no-print-directory -j 2 prepare
	@$(MAKE) --no-print-directory -j 2 types bytecode lint contracts
	@$(MAKE) --no-print-directory pytest

# What the tests need: packages and programs, installed beside each other.
prepare: $(VENV)/.installed-test programs

programs:
	@sh tools/debian_packages.sh

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

contracts: $(VENV)/.installed-test
	$(BIN)/lint-imports

# Compiled once, beside mypy: else each worker would rewrite and compile all tests for itself. pip compiles nothing:
# of what it installs, the tests import a small part.
bytecode: $(VENV)/.installed-test
	@$(BIN)/python -m pytest --collect-only -qq >/dev/null || $(BIN)/python -m pytest --collect-only -qq

pytest: $(VENV)/.installed-test programs
	@$(BIN)/python tools/run_tests.py

# All short benchmarks, and a table of their figures; WRITE=1 keeps them in docs/benchmarks.md.
bench: $(VENV)/.installed-test
	$(BIN)/python -m bench all $(if $(WRITE),--write)

# An hour of probes, dashboards and a collector, watched for leaks.
soak: $(VENV)/.installed-test
	$(BIN)/python -m bench soak --minutes 60

docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

reference: $(VENV)/.installed-test
	$(BIN)/python tools/reference.py

# Wheel and sdist in dist/, with man pages and shell completions.
dist: $(VENV)/.installed-test
	$(BIN)/python -m hatchling build

# What a release installs, each file with its hash; made anew whenever constraints.txt changes (needs the registry).
release-pins: $(VENV)/.installed-test
	@$(BIN)/python tools/release/release_pins.py
	@$(BIN)/python tools/release/release_pins.py --check

# The wheel, without constraints and as released, on each Python of this machine (needs the registry).
try-wheel: $(VENV)/.installed-test
	@$(BIN)/python tools/release/try_wheel.py
	@$(BIN)/python tools/release/try_wheel.py --pinned

# Known vulnerabilities of what a release installs; where the advisories cannot be had this says so and is no failure.
audit:
	@$(PYTHON) tools/release/audit.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) tools/check_python.py
	@echo "making $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-run-$(TORCH): $(BIN)/python pyproject.toml constraints.txt
	@echo "installing swarmtop and what it needs$(if $(filter 0,$(TORCH)),, (torch is the big one: TORCH=0 leaves it out))" >&2
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '$(RUN_EXTRAS)'
	@touch $@

$(VENV)/.installed-test: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing swarmtop and its test tools" >&2
	@$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '$(TEST_EXTRAS)'
	@touch $@

# The pictures of README and manual, from the recording that ships: the same file gives the same pictures.
PICTURE := $(BIN)/python tools/picture.py --db build/pictures/swarm.db --model llama-3.2-1b --weights fp32 --back 80 --width 130 --height 38
pictures: $(VENV)/.installed-test
	@mkdir -p build/pictures
	$(BIN)/python -c "from pathlib import Path; from swarm_lab.recording import unpack; unpack(Path('build/pictures'))"
	$(BIN)/python tools/moving_picture.py --out docs/story.svg
	$(PICTURE) --screen 1 --out docs/overview.svg
	$(PICTURE) --screen 2 --out docs/node.svg
	$(PICTURE) --screen 3 --out docs/links.svg
	$(PICTURE) --screen 4 --out docs/placement.svg
	$(PICTURE) --screen 5 --out docs/time.svg
	$(BIN)/python tools/picture.py --swarm examples/friends.toml --model llama-3.1-70b --weights q4_k_m --screen 3 --keys v,v --width 120 --height 34 --out docs/map.svg

# What the tests would not notice: changes one thing at a time in the modules of tools/mutants.toml. Takes half an hour; SAMPLE=N is quicker.
mutants: $(VENV)/.installed-test
	@$(BIN)/python tools/mutants.py $(if $(SAMPLE),--sample $(SAMPLE))
