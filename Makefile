# Every target sets up .venv first; PYTHON must be 3.11 or 3.12.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export DAGSTER_HOME := $(CURDIR)

.PHONY: run test test-slow smoke ui check calibrate-statistics bench chaos clean install

run: install  ## everything once, then the leaderboard
	$(BIN)/piano run

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@date +%s > .install-started
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; assert (3, 11) <= v < (3, 13), f"PYTHON must be 3.11 or 3.12, is {v}"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -c 'from piano_assets.features.traditional import compile_once; compile_once()'  # once, not at first use
	@touch $(READY)
	@echo "installed in $$(( $$(date +%s) - $$(cat .install-started) )) s"; rm -f .install-started

test: install  ## the suite, under 10 minutes on 2 cores
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not slow'

test-slow: install  ## what takes minutes by itself: a cluster that loses a node, training elsewhere and back
	$(BIN)/python -m pytest -m slow

smoke: install  ## every config, two epochs on eight clips, on a small synthetic corpus
	$(BIN)/piano smoke

ui: install  ## the Dagster UI on loopback
	$(BIN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 --port 3000

check: install  ## style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

calibrate-statistics: install  ## what each test is worth, on the corpus's structure: docs/statistics.md
	$(BIN)/python -m piano_assets.report.calibration_doc docs/statistics.md

# The corpus that is measured: PERCEPIANO_DIR, and its rendered clips (make run).
CORPUS_DIR ?= $(PERCEPIANO_DIR)
bench: install  ## every speed claim beside its peer; results in benchmarks/results
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,bench]'
	$(BIN)/python -m benchmarks.store
	$(BIN)/python -m benchmarks.night
	$(BIN)/python -m benchmarks.statistics --data data/percepiano
	$(BIN)/python -m benchmarks.symbolic_features $(CORPUS_DIR)
	$(BIN)/python -m benchmarks.audio_features --audio data/percepiano/renderings/modal
	$(BIN)/python -m benchmarks.rendering speed --midi $(CORPUS_DIR)/virtuoso/data/all_2rounds
	$(BIN)/python -m benchmarks.attention
	$(BIN)/python -m benchmarks.training --data data/percepiano
	PIANO_PRECISION=bfloat16 $(BIN)/python -m benchmarks.training --data data/percepiano

chaos: install  ## what kills do: sweeps, every step of one, writers, Dagster itself; and many writers beside readers
	$(BIN)/python -m benchmarks.chaos
	$(BIN)/python -m benchmarks.chaos_store
	$(PYTHON) -m venv $(VENV)/peers
	$(VENV)/peers/bin/pip install --quiet --disable-pip-version-check --requirement benchmarks/peers.txt
	$(BIN)/python -m benchmarks.contention --peer $(VENV)/peers/bin/python
	$(BIN)/python -m benchmarks.ray_sweep
	$(BIN)/python -m benchmarks.chaos_dagster

clean:  ## remove the environment and caches; data stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .numba_cache
