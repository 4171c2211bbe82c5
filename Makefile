# Two commands do everything: `make demo` and `make test`. Both install what they need into .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Plain `pip install torch` may fetch several GB of CUDA packages; laptops and CI want the CPU build of a tested release.
# Where this index cannot be reached, pip takes the release from wherever it is configured to look.
TORCH  ?= torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PYTEST_ARGS ?=
# Container images like to set it; here it would make each of hundreds of processes compile its libraries again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test test-rooms test-e2e test-chaos test-exhaustive chaos lint format bench crds manifests docs clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "finetune-operator needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PYTHON) -c 'import urllib.request; urllib.request.urlopen("$(TORCH_INDEX)/", timeout=10)' 2>/dev/null \
	  && index='--extra-index-url $(TORCH_INDEX)' || index=''; \
	$(BIN)/pip install --quiet --disable-pip-version-check $$index '$(TORCH)' uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[dev]'
	# moto, the S3 server of the tests, needs an older python-dateutil than kubernetes 37: it lives on its own.
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/s3-server
	$(BIN)/uv pip install --quiet --python $(VENV)/s3-server/bin/python 'moto[server]>=5.2'
	touch $@

demo: install
	$(BIN)/python examples/quickstart/demo.py

# Most tests wait for processes: four at a time keep two cores busy; the longest files come first, so that no core idles
# at the end. What trains over several pods goes three at a time, and what measures leases has the machine for itself.
# Each part keeps its failures, and how its process ended, apart from the others: .ci/run reads them.
LONGEST := interruption vanished_node ray secrets
PARALLEL := --dist loadfile --no-loadscope-reorder
PYTEST = $(BIN)/python -m pytest -o cache_dir=.pytest_cache/$@
REMEMBER = || { code=$$?; mkdir -p .pytest_cache; echo $$code > .pytest_cache/$@.exit; exit $$code; }
test test-rooms test-e2e test-chaos: export OMP_NUM_THREADS = 1
test: install
	$(MAKE) --no-print-directory --keep-going --jobs=1 test-rooms test-e2e test-chaos

test-rooms: install
	$(PYTEST) -n 4 $(PARALLEL) --ignore tests/e2e --ignore tests/chaos tests/trainer tests $(PYTEST_ARGS) $(REMEMBER)

test-e2e: install
	$(PYTEST) -n 3 $(PARALLEL) $(LONGEST:%=tests/e2e/test_%.py) tests/e2e $(PYTEST_ARGS) $(REMEMBER)

test-chaos: install
	$(PYTEST) tests/chaos $(PYTEST_ARGS)

# Every pair of the matrices of which `make test` runs a part.
test-exhaustive: export FINETUNE_EXHAUSTIVE_TESTS = 1
test-exhaustive: test

# The same as in `make test`, bigger: 200 jobs, the lease as shipped. Seeds are printed; CHAOS_ARGS="--chaos-seed N" repeats.
CHAOS_ARGS ?=
chaos: install
	$(BIN)/python -m pytest tests/chaos -s --timeout 1800 --chaos-jobs 200 --chaos-rounds 12 $(CHAOS_ARGS)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict api/finetune_api operator/finetune_operator
	$(BIN)/mypy storage/finetune_storage trainer/finetune_trainer serving/finetune_serving local/finetune_local benchmarks
	$(BIN)/lint-imports
	$(BIN)/python tests/measure_style.py .

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	$(BIN)/python -m benchmarks

crds: install
	$(BIN)/finetune-operator crds > manifests/crds/crds.yaml
	cp manifests/crds/crds.yaml charts/finetune-operator/crds/crds.yaml

manifests: crds
	$(BIN)/python charts/render_dashboard.py
	$(BIN)/python manifests/render.py

docs: install
	$(BIN)/python docs/render_methods.py
	$(BIN)/python docs/render_metrics.py

clean:
	rm -rf $(VENV) .demo
