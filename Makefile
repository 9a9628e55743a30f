# cgwatch: `make run` starts the agent, `make test` runs everything; both set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH = $(BIN)/python -m bench $(if $(CADVISOR),--cadvisor '$(CADVISOR)')

.PHONY: run test check bench churn compare dashboards golden format clean

# The two stamps make pip run again only when the dependencies change.
$(VENV)/core.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[all]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[all,dev]'
	@touch $@

# Start the agent with its embedded defaults: http://127.0.0.1:9753/metrics
run: $(VENV)/core.stamp
	$(BIN)/cgwatch run $(ARGS)

# All checks, then all tests. What this machine lacks (root, Docker, ...) is named at the end.
test: check
	$(BIN)/python -m pytest $(ARGS)

# Style, types, layers: nothing runs here.
check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The figures that the README claims, measured here: on cgroup v1 (or whatever this machine has), then on v2 in
# User Mode Linux; with make bench CADVISOR=/path/to/cadvisor beside a real cAdvisor, too.
bench: $(VENV)/dev.stamp
	mkdir -p build
	$(BENCH) --json build/bench.json $(ARGS)
	$(BENCH) --uml --with build/bench.json --json build/bench-uml.json --markdown $(ARGS)

# Two thousand cgroups that come and go, for ten minutes; `make test` takes one.
churn: $(VENV)/dev.stamp
	CGWATCH_CHURN_SECONDS=600 $(BIN)/python -m pytest -s tests/real/test_churn.py $(ARGS)

# Every value beside that of a real cAdvisor on the same containers: make compare CADVISOR=/path/to/cadvisor
compare: $(VENV)/dev.stamp
	$(BIN)/python -m tests.compare --cadvisor '$(CADVISOR)' $(ARGS)

# Write the Grafana dashboards anew from dashboards/generate.
dashboards: $(VENV)/dev.stamp
	$(BIN)/python -m dashboards.generate

# Write the pages of the captured trees anew; look at the difference before you commit it.
golden: $(VENV)/dev.stamp
	$(BIN)/python -m tests.golden

format: $(VENV)/dev.stamp
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
