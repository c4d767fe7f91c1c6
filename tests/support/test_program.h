#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "bezel/error.h"

namespace bezel::test {

/// The body of a test program's main: calls `run` with the arguments, or prints `usage` where they do not fit. Returns
/// the exit code.
template <typename Run>
int run_program(int argc, char** argv, bool fits, const char* usage, const Run& run) {
  if (!fits) {
    std::fprintf(stderr, "%s\n", usage);
    return 2;
  }
  try {
    run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.kind());
  }
  return 0;
}

}  // namespace bezel::test
