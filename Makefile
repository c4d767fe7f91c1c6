# The two commands: `make demo` and `make test`. Each sets up what is missing first.
#
# LIBTORCH=/some/libtorch   build on that LibTorch instead of the one in .venv
.PHONY: setup build wheel demo-command demo demo-preferences test test-llama test-asan fuzz bench device-counts soak reference clean format

PYTHON := .venv/bin/python3

setup:
	@tools/setup.sh build

build: setup
	@cmake --preset release
	@cmake --build --preset release

# dist/bezel-*.whl, the command for `pip install` beside torch.
wheel: build
	@tools/setup.sh wheel
	@$(PYTHON) tools/make_wheel.py build dist

demo-command:
	@tools/setup.sh demo
	@cmake --preset release
	@cmake --build --preset release --target bezel_cli

demo: demo-command
	@$(PYTHON) demo/prepare.py
	@$(PYTHON) demo/capitals.py
	@demo/run.sh
	@demo/capitals.sh

# Preference training (docs/preferences.md) on Gemma 3 270M.
demo-preferences: demo-command
	@$(PYTHON) demo/capitals.py
	@$(PYTHON) demo/preferences.py
	@demo/preferences.sh

# Test programs run side by side: threads that spin while they wait would starve each other.
test:
	@tools/setup.sh test
	@cmake --preset dev
	@cmake --build --preset dev
	@OMP_WAIT_POLICY=passive ctest --test-dir build-dev --output-on-failure -j2

# Gemma 3 270M beside llama.cpp and transformers + PEFT, with the demo's training: `make test` leaves the minutes of it out.
test-llama:
	@tools/setup.sh test
	@cmake --preset dev
	@cmake --build --preset dev --target bezel_cli
	@$(PYTHON) tests/parity/gemma3_270m.py build-dev build-dev/tests --full

# The unit tests under ASan and UBSan: a build of half an hour, so no part of `make test`, which does so for the parsers.
test-asan:
	@tools/setup.sh test
	@cmake --preset asan
	@cmake --build --preset asan --target parser_tests bezel_tests
	@tests/sanitized.sh build-asan

# Every fuzz target in turn, for so many seconds, with the lines that it reached.
SECONDS := 60
fuzz:
	@tools/setup.sh fuzz
	@cmake --preset fuzz
	@cmake --build --preset fuzz
	@tests/fuzz/run.sh build-fuzz $(SECONDS)

# Beside transformers + PEFT on this machine, about two hours for both; then each vectorised loop beside ATen's operators.
bench:
	@tools/setup.sh test
	@cmake --preset release -DBEZEL_BENCHMARKS=ON
	@cmake --build --preset release --target bezel_cli bench_kernels
	@$(PYTHON) benchmarks/gemma3_270m.py
	@$(PYTHON) benchmarks/vs_transformers.py
	@build/benchmarks/bench_kernels
	@$(MAKE) device-counts

# What an update asks of a device, Bezel beside transformers + PEFT, into docs/BENCHMARKS.md: counts on a simulated device.
device-counts:
	@tools/setup.sh test
	@cmake --preset dev
	@cmake --build --preset dev --target count_steps simulated_device
	@$(PYTHON) benchmarks/device_counts.py

# 2,000 steps, killed at random 50 times; processes killed 30 times, and stopped for two minutes: minutes, so no part of `make test`,
# which runs short forms.
soak:
	@tools/setup.sh test
	@cmake --preset release
	@cmake --build --preset release --target bezel_cli
	@$(PYTHON) tests/soak.py build
	@$(PYTHON) tests/parity/process_faults.py build --kills 30 --stop 120

# docs/REFERENCE.md, from the program's own tables.
reference: build
	@build/bezel reference > docs/REFERENCE.md

clean:
	rm -rf build build-dev build-asan build-fuzz dist demo/out demo/assets demo/out-capitals demo/capitals demo/out-preferences demo/preferences

format:
	@git ls-files '*.h' '*.cpp' | xargs clang-format -i
