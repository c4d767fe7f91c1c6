#!/usr/bin/env bash
# Every C++ file is as clang-format 14 (Debian 12's) writes it; other versions break lines elsewhere, and skip.
set -euo pipefail
cd "$1"
clang-format --version 2>/dev/null | grep -q 'version 14\.' || exit 77
git ls-files '*.h' '*.cpp' | xargs clang-format --dry-run -Werror
