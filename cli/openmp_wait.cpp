#include "cli/openmp_wait.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>

#include <sys/auxv.h>
#include <unistd.h>

namespace bezel::cli {
namespace {

// libgomp's default is 300,000 spins, which is milliseconds: as long as a scheduler's slice, in which the thread that
// is waited for does not run where cores are shared. benchmarks/shared_machine.py measures it.
constexpr std::string_view kSpins = "GOMP_SPINCOUNT=2000";
constexpr std::string_view kRestarted = "BEZEL_RESTARTED=1";  // keeps a restarted command from starting again
constexpr std::string_view kChosenByUser[] = {"OMP_WAIT_POLICY=", "GOMP_SPINCOUNT=", "KMP_BLOCKTIME=", "KMP_LIBRARY="};

bool settles_waiting(std::string_view variable) {
  return variable == kRestarted ||
         std::ranges::any_of(kChosenByUser, [&](std::string_view name) { return variable.starts_with(name); });
}

// Of a program that was handed to the dynamic linker by hand, /proc/self/exe is the linker.
bool can_restart() { return ::getauxval(AT_BASE) != 0; }

}  // namespace

std::vector<std::string> bounded_spin_environment(const std::vector<std::string>& environment) {
  if (std::ranges::any_of(environment, settles_waiting)) return {};
  std::vector<std::string> bounded = environment;
  bounded.emplace_back(kSpins);
  bounded.emplace_back(kRestarted);
  return bounded;
}

void restart_with_bounded_spin(char** argv) {
  if (!can_restart()) return;
  std::vector<std::string> own;
  for (char** variable = environ; *variable != nullptr; ++variable) own.emplace_back(*variable);
  std::vector<std::string> bounded = bounded_spin_environment(own);
  if (bounded.empty()) return;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return;
  std::vector<char*> variables;
  for (std::string& variable : bounded) variables.push_back(variable.data());
  variables.push_back(nullptr);
  ::execve(program.c_str(), argv, variables.data());
}

}  // namespace bezel::cli
