#!/usr/bin/env bash
# tests/sanitized.sh BUILD [GTEST_FILTER]: the unit tests of a build with sanitizers, any finding being a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
build="$1" filter="${2:-*}"
# SIGBUS is what the tests of torn maps are about. LibTorch is not instrumented: containers that cross its border may look overrun, what it frees may be of our operator
# new, and what it keeps until the process ends counts as leaked. Tests under ptrace could not look for leaks anyway.
export ASAN_OPTIONS=detect_leaks=0:detect_container_overflow=0:alloc_dealloc_mismatch=0:allocator_may_return_null=1:handle_sigbus=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export OMP_WAIT_POLICY=passive
# UBSan asks the kernel whether an address is memory by a call of write, which these two tests make fail.
[[ "$filter" == "*" ]] && filter="*-SaveFaults.AFailingCall*:SaveFaults.AFullDisk*"
ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=1" "$build/tests/parser_tests" --gtest_brief=1 --gtest_filter="$filter"
"$build/tests/bezel_tests" --gtest_brief=1 --gtest_filter="$filter"
