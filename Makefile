# Needs Python 3.11+ and make. Everything lives in .venv; nothing is installed elsewhere but the weights.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test heavy proof lint weights vllm bench dashboard docs picture imports clean

run: $(VENV)/.run
	$(BIN)/smallfirst serve

test: $(VENV)/.dev
	$(BIN)/smallfirst models pull
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term:skip-covered

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.imports

# Real parts, samples: real Prometheus, the real pair of models, real vLLM.
heavy: $(VENV)/.dev weights vllm
	$(BIN)/python -m pytest -m heavy --timeout 900

# Everything, by hand: results with commit and versions go to docs/results/.
proof: $(VENV)/.dev weights vllm
	$(BIN)/python -m pytest -m "heavy or proof" --timeout 3600
	$(BIN)/python -m benchmarks.overhead.run --rounds 30 --json docs/results/overhead.json
	$(BIN)/python -m benchmarks.proof
	$(BIN)/python -m benchmarks.engines
	$(BIN)/python -m benchmarks.speculation
	$(BIN)/python -m benchmarks.inside
	$(BIN)/python -m benchmarks.greedy
	$(BIN)/python -m benchmarks.scoring
	$(BIN)/python -m benchmarks.compression
	$(BIN)/python -m benchmarks.evaluators
	$(BIN)/python -m benchmarks.guard
	$(BIN)/python -m benchmarks.privacy
	$(BIN)/python -m benchmarks.relevance
	$(BIN)/python -m benchmarks.flywheel

# The small model, and the 1.5B model that stands in for a large one.
weights: $(VENV)/.dev
	$(BIN)/smallfirst models pull
	$(BIN)/python -m benchmarks.large

# Real vLLM for CPU, in the user's cache folder: 5 GB. Where it cannot be had, its tests skip and say why.
vllm: $(VENV)/.dev
	$(BIN)/smallfirst models pull
	$(BIN)/python -m benchmarks.vllm.environment

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.overhead.run

dashboard: $(VENV)/.dev
	$(BIN)/python -m deploy.grafana.overview > deploy/grafana/dashboards/overview.json

# Tables in docs/ that are made from the code.
docs: $(VENV)/.dev
	$(BIN)/python -m tools.docs.generate

# One request's way through the gateway, traced and drawn anew.
picture: $(VENV)/.dev
	$(BIN)/python -m tools.docs.trace

# Which package imports which; fails where imports form a circle.
imports: $(VENV)/.dev
	$(BIN)/python -m tools.imports

clean:
	rm -rf $(VENV) dist build

$(VENV)/.run: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'  # the first that knows groups
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[privacy]' --group dev
	touch $(VENV)/.run $@
