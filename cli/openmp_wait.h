#pragma once

#include <string>
#include <vector>

namespace bezel::cli {

/// The environment of a process that OpenMP threads spin in for microseconds before they sleep, made from `environment`
/// (NAME=value). Empty where nothing is to change: the user decided how threads wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT,
/// KMP_BLOCKTIME or KMP_LIBRARY), or the environment is already the result of this function.
std::vector<std::string> bounded_spin_environment(const std::vector<std::string>& environment);

/// Starts the command again in that environment, once: the OpenMP runtime reads it while the program is loaded. Returns
/// where nothing is to change or the system refuses; then threads wait as the runtime's default has it.
void restart_with_bounded_spin(char** argv);

}  // namespace bezel::cli
