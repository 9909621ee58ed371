# soothe: everything is built by CMake; this file only calls it and the scripts.
BUILD ?= build

.PHONY: all help setup demo test asan werror bench calibrator fuzz install format clean
all: setup                ## build soothe into build/ (installs what is missing, builds the engine once)
	@cmake --build $(BUILD)

help:                     ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/\t/' | expand -t 14

setup:
	@scripts/setup.sh $(BUILD)

demo: all                 ## plain and soothed continuations of real prompts, side by side; then a small evaluation
	@$(BUILD)/soothe demo
	@rm -rf $(BUILD)/demo-evaluation
	@echo; echo "The same, measured on a few prompts (build/soothe help eval):"
	@$(BUILD)/soothe eval --suite challenging-mini --limit 6 --methods plain,auto -k 4 -n 12 --ppl-samples 1 \
		--out $(BUILD)/demo-evaluation 2>/dev/null

test: all                 ## all tests
	@scripts/test.sh $(BUILD)

asan:                     ## all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/setup.sh build-asan -DSOOTHE_SANITIZE=ON -DSOOTHE_BENCH=OFF
	@cmake --build build-asan
	@scripts/test.sh build-asan

werror:                   ## a build in which warnings are errors
	@scripts/setup.sh build-werror -DSOOTHE_WERROR=ON
	@cmake --build build-werror

bench: all                ## cost of fusion, as ratios of alternating runs
	@scripts/bench.sh $(BUILD)

calibrator: all           ## train the default calibrator again (under 30 minutes on 2 cores)
	@scripts/make_calibrator.sh $(BUILD)

fuzz:                     ## libFuzzer on every file reader, a minute each (needs clang)
	@scripts/fuzz.sh

install: all              ## cmake --install (PREFIX=/usr/local)
	@cmake --install $(BUILD) --prefix $(or $(PREFIX),/usr/local)

format:                   ## apply .clang-format
	@clang-format -i include/*.h src/*/*.[ch] tests/*.[ch] bench/*.c examples/*.c fuzz/*.c

clean:                    ## remove the build folders (the engine stays in the cache)
	@rm -rf build build-*
