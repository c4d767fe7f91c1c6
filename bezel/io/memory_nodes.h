#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Memory nodes (NUMA): parts of the memory, each with the cores that it is near to. Nothing here needs what
/// constructors set up, so that it can be asked before them.
namespace bezel::io {

/// Where Linux describes cores and memory.
inline constexpr const char* kSystemFolder = "/sys/devices/system";

struct MemoryNode {
  int number = 0;
  std::vector<int> cores{};  ///< that may be used, in ascending order
};

/// What a process may use, by number, in ascending order.
struct UsableParts {
  std::vector<int> cores{};
  std::vector<int> nodes{};  ///< whose memory; empty: of all
};

/// The numbers of a kernel's list such as "0-3,8\n"; nothing where it is none.
std::optional<std::vector<int>> parse_number_list(std::string_view text);

/// Of the text of /proc/self/status (proc(5)): Cpus_allowed_list and Mems_allowed_list.
UsableParts parse_usable_parts(std::string_view status);

/// What this process may use. Where `bezel` has bound its threads to nodes, the cores from before that.
UsableParts usable_parts();

/// The nodes that are online, have memory and cores, and may be used, by number. `system` is kSystemFolder; empty where
/// it says nothing of nodes.
std::vector<MemoryNode> memory_nodes(const std::string& system, const UsableParts& usable);

/// Variables of the environment that bind OpenMP's threads to the nodes, a place for each: those with neighboring
/// numbers share one, and first touch what is theirs there. Empty where there is one node, or somebody else has
/// decided: by a variable or an argument (--threads), as a launcher of several processes, or with fewer than all cores.
std::vector<std::string> node_binding(const std::string& system, const UsableParts& usable, char* const* arguments,
                                      char* const* environment);

/// What a process alone on `nodes` should say of them; "" where there are fewer than two.
std::string node_hint(std::span<const MemoryNode> nodes);

}  // namespace bezel::io
