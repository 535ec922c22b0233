# Set-up and workshop: `make tour` (the whole loop) and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MODEL ?=
FIDELITY ?= full

.PHONY: tour test lint types imports format app bench bench-kernel bench-fidelity bench-engine bench-batching bench-ramp bench-router bench-autoscalers show clean

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[app,dev]'
	@touch $(STAMP)

tour: $(STAMP)
	$(BIN)/forebay tour $(if $(MODEL),--model "$(MODEL)")

test: $(STAMP) lint types imports
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

app: $(STAMP)
	$(BIN)/streamlit run app.py

bench: bench-kernel bench-engine bench-batching bench-fidelity bench-ramp

bench-kernel: $(STAMP)
	$(BIN)/python -m bench.kernel

bench-engine: $(STAMP)
	$(BIN)/python -m bench.engine

bench-ramp: $(STAMP)
	$(BIN)/python -m bench.ramp

bench-autoscalers: $(STAMP)
	$(BIN)/python -m bench.autoscalers

# Other engines' batching, live against simulated; installs each engine into an environment of its own.
bench-batching: $(STAMP)
	$(BIN)/python -m bench.batching

bench-fidelity: $(STAMP)
	$(BIN)/python -m bench.fidelity --set $(FIDELITY)

bench-router: $(STAMP)
	$(BIN)/python -m bench.router
	$(BIN)/python -m bench.fidelity_routed

# 20,000 checked requests while replicas are killed; CI runs the same test with fewer.
show: $(STAMP)
	FOREBAY_SHOW_REQUESTS=60000 $(BIN)/python -m pytest tests/serve/test_show_kills.py

clean:
	rm -rf $(VENV) out
