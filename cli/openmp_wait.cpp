#include "cli/openmp_wait.h"

#include <algorithm>
#include <array>
#include <climits>
#include <string>
#include <string_view>
#include <vector>

#include <sys/auxv.h>
#include <unistd.h>

#include "bezel/io/memory_nodes.h"

namespace bezel::cli {
namespace {

// libgomp's default is 300,000 spins, which is milliseconds: as long as a scheduler's slice, in which the thread that
// is waited for does not run where cores are shared. benchmarks/shared_machine.py measures it.
constexpr std::string_view kSpins = "GOMP_SPINCOUNT=2000";
constexpr std::string_view kRestarted = "BEZEL_RESTARTED=1";  // keeps a restarted command from starting again
constexpr std::string_view kChosenByUser[] = {"OMP_WAIT_POLICY=", "GOMP_SPINCOUNT=", "KMP_BLOCKTIME=", "KMP_LIBRARY="};

bool settles_waiting(std::string_view variable) {
  return std::ranges::any_of(kChosenByUser, [&](std::string_view name) { return variable.starts_with(name); });
}

// Of a program that was handed to the dynamic linker by hand, /proc/self/exe is the linker.
bool can_restart() { return ::getauxval(AT_BASE) != 0; }

// `environment` with the bound, and on machines with several memory nodes with places for the threads; empty where
// nothing is to change.
std::vector<std::string> bounded_spin_environment(char* const* argv, char* const* environment) {
  std::vector<std::string> bounded;
  bool is_settled = false;
  for (char* const* next = environment; *next != nullptr; ++next) {
    if (*next == kRestarted) return {};
    is_settled = is_settled || settles_waiting(*next);
    bounded.emplace_back(*next);
  }
  const std::vector<std::string> places = io::node_binding(io::kSystemFolder, io::usable_parts(), argv, environment);
  if (is_settled && places.empty()) return {};
  bounded.insert(bounded.end(), places.begin(), places.end());
  if (!is_settled) bounded.emplace_back(kSpins);
  bounded.emplace_back(kRestarted);
  return bounded;
}

}  // namespace

void restart_with_bounded_spin(char* const* argv, char* const* environment) {
  if (!can_restart()) return;
  std::vector<std::string> bounded = bounded_spin_environment(argv, environment);
  if (bounded.empty()) return;
  std::array<char, PATH_MAX> program{};
  const ssize_t size = ::readlink("/proc/self/exe", program.data(), program.size());
  if (size <= 0 || static_cast<std::size_t>(size) == program.size()) return;
  std::vector<char*> variables;
  for (std::string& variable : bounded) variables.push_back(variable.data());
  variables.push_back(nullptr);
  ::execve(program.data(), argv, variables.data());
}

}  // namespace bezel::cli
