#pragma once

#include <string>

#include "bezel/report/history.h"
#include "bezel/train/run.h"

namespace bezel::cli {

/// A run in a few lines: losses with their curves, speed, time, memory, and where the files are.
std::string summary_text(const report::RunHistory& history, const train::RunResult& result);

}  // namespace bezel::cli
