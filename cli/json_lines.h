#pragma once

#include "bezel/train/run.h"

namespace bezel::cli {

/// Events that print one JSON object a line on stdout, each with the key "event": warning, start, saturation,
/// predictions, step, expert_load, eval, save, save_failed, left_out.
train::RunEvents json_line_events();

/// The last line, with the event "end".
void print_json_end(const train::RunResult& result);

}  // namespace bezel::cli
