# Two commands do everything: `make demo` runs the main job on real data, `make test` passes every test.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DEMO := artifacts/demo
NATIVE_SOURCES = $(shell find plugins -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')
PLUGINS := $(shell find plugins -name tests -prune -o -type f -print)

.DELETE_ON_ERROR:
.PHONY: demo test native lint format gpu-bundle gpu-unpack gpu-check gpu-train clean help

help:  ## List what there is.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

# Everything is installed into $(VENV) inside the clone, at the versions of constraints.txt. The package compiles
# plugins/: headers that cannot be had leave out the libraries that want them, and kernels for GPUs, which take minutes,
# are left to `make native`.
$(VENV)/installed: pyproject.toml constraints.txt $(PLUGINS)
	$(PYTHON) -m venv $(VENV)
	-$(BIN)/python plugins/headers.py
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --config-settings cmake.define.RC_CUDA=OFF \
	    --editable '.[dev]'
	-$(BIN)/python tests/tensorrt_stubs.py
	touch $@

demo: $(VENV)/installed  ## Real digits through train, export, build --fp16, validate, bench to a report (3 minutes).
	mkdir -p $(DEMO)
	$(BIN)/rc-deploy train digits --run $(DEMO)/run --restart --output $(DEMO)/checkpoint.pt --json $(DEMO)/training.json
	$(BIN)/rc-deploy export $(DEMO)/checkpoint.pt $(DEMO)/model.onnx --json $(DEMO)/export.json
	$(BIN)/rc-deploy validate $(DEMO)/model.onnx --reference $(DEMO)/checkpoint.pt --data digits:test \
	    --min-agreement 100 --json $(DEMO)/validation.fp32.json
	$(BIN)/rc-deploy build $(DEMO)/model.onnx --fp16
	$(BIN)/rc-deploy validate $(DEMO)/model.fp16.engine --reference $(DEMO)/checkpoint.pt --data digits:test \
	    --json $(DEMO)/validation.json
	$(BIN)/rc-deploy bench $(DEMO)/checkpoint.pt $(DEMO)/model.onnx --json $(DEMO)/bench.json
	$(BIN)/rc-deploy report $(DEMO) --output $(DEMO)/report.html

# A process of pytest for each core; a file's tests stay in one, in the order of the files. Threads of one process do not
# spin while they wait, for the other processes want the cores.
test: $(VENV)/installed  ## Every test that this machine can run.
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

native: $(VENV)/installed  ## Build plugins/ and their tests into build/plugins; RC_DEPLOY_LIBRARIES=build/plugins/lib uses them.
	$(BIN)/python plugins/headers.py
	cmake -S plugins -B build/plugins -DRC_BUILD_TESTS=ON -DRC_WERROR=ON
	cmake --build build/plugins --parallel 2

lint: $(VENV)/installed  ## Style and types, as CI checks them.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE_SOURCES)

format: $(VENV)/installed  ## Rewrite the sources in the project's format.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE_SOURCES)

# DATA takes data sets along, WITH=tensorrt what is large, FOR=3.12 is the other machine's Python.
gpu-bundle:  ## Where a network is: what gpu-check wants on a machine that has none, in pieces, into build/gpu-bundle.
	$(or $(wildcard $(BIN)/python),$(PYTHON)) benchmarks/gpu_bundle.py pack $(if $(DATA),--data $(DATA)) \
	    $(if $(WITH),--with $(WITH)) $(if $(FOR),--python $(FOR))

gpu-unpack:  ## On the machine with a GPU: put in place the pieces of build/gpu-bundle that are there.
	$(or $(wildcard $(BIN)/python),$(PYTHON)) benchmarks/gpu_bundle.py unpack

# A machine with a GPU may have no network: without $(VENV), its own Python runs what its packages allow.
gpu-check:  ## Build, prove and measure all that wants a GPU, in 9 minutes; REHEARSE=1 tries it out without one.
	$(or $(wildcard $(BIN)/python),$(PYTHON)) benchmarks/gpu_check.py $(if $(REHEARSE),--rehearse) $(if $(AGAIN),--again)

# The same Python; DATA holds the data sets, RUNS (build/gpu-train) is to be kept from one call to the next.
gpu-train:  ## On a machine with a GPU: train the paper's networks for 9 minutes, from where the last call stopped; DATA=DIR.
	$(or $(wildcard $(BIN)/python),$(PYTHON)) benchmarks/gpu_train.py $(DATA) $(if $(RUNS),--runs $(RUNS)) \
	    $(if $(TRAIN),--train "$(TRAIN)") $(if $(REHEARSE),--rehearse)

clean:  ## Remove what was built and installed.
	rm -rf $(VENV) artifacts build dist
