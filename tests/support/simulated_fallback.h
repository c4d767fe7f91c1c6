#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

namespace bezel::simulated {

/// Runs an operator of the device by the CPU's kernel, over the same memory, and counts it.
void run_on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack);

}  // namespace bezel::simulated
