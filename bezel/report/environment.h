#pragma once

#include <string>
#include <vector>

#include "bezel/report/history.h"

namespace bezel::report {

/// The machine of a run: LibTorch, processor, threads, memory, system. What the system does not tell is left out.
std::vector<Setting> describe_environment();

}  // namespace bezel::report
