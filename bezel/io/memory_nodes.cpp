#include "bezel/io/memory_nodes.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <iterator>

#include <fcntl.h>
#include <unistd.h>

namespace bezel::io {
namespace {

constexpr int kMostNumber = 1 << 16;  // far beyond the cores and nodes of any machine
constexpr std::string_view kCoresBefore = "BEZEL_CORES_BEFORE_BINDING";

// Whoever sets one of these has decided where threads run, or starts several processes side by side.
constexpr std::string_view kDecided[] = {
    "OMP_PROC_BIND=", "OMP_PLACES=",      "GOMP_CPU_AFFINITY=", "KMP_AFFINITY=",
    "KMP_HW_SUBSET=", "OMP_NUM_THREADS=", "MKL_NUM_THREADS=",   "OMPI_COMM_WORLD_SIZE=",
    "PMI_SIZE=",      "PMI_RANK=",        "PMIX_RANK=",         "SLURM_PROCID="};

// "" for a file that cannot be read.
std::string text_of(const std::string& path) {
  std::string text;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  std::array<char, 4096> part{};
  for (ssize_t got = 0; (got = ::read(fd, part.data(), part.size())) > 0;)
    text.append(part.data(), static_cast<std::size_t>(got));
  ::close(fd);
  return text;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\n");
  return begin == std::string_view::npos ? std::string_view{}
                                         : text.substr(begin, text.find_last_not_of(" \t\n") + 1 - begin);
}

std::optional<int> number_of(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < 0 || number > kMostNumber)
    return std::nullopt;
  return number;
}

// The value behind "<key>:" at the begin of a line.
std::string_view value_of(std::string_view text, std::string_view key) {
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    if (line.starts_with(key) && line.substr(key.size()).starts_with(':')) return line.substr(key.size() + 1);
    begin = end + 1;
  }
  return {};
}

std::vector<int> common_numbers(const std::vector<int>& a, const std::vector<int>& b) {
  std::vector<int> both;
  std::ranges::set_intersection(a, b, std::back_inserter(both));
  return both;
}

// Runs of cores as "0:16,32:16" (OpenMP: first, count), or as the kernel writes them, "0-15,32-47".
std::string runs_text(const std::vector<int>& numbers, bool counts) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    text += (text.empty() ? "" : ",") + std::to_string(numbers[i]);
    if (counts)
      text += ":" + std::to_string(end - i);
    else if (end - i > 1)
      text += "-" + std::to_string(numbers[end - 1]);
    i = end;
  }
  return text;
}

bool has_decided(char* const* arguments, char* const* environment) {
  const auto begins = [](char* const* texts, auto is_one) {
    for (; *texts != nullptr; ++texts)
      if (is_one(std::string_view(*texts))) return true;
    return false;
  };
  return begins(arguments, [](std::string_view text) { return text.starts_with("--threads"); }) ||
         begins(environment, [](std::string_view text) {
           return std::ranges::any_of(kDecided, [&](std::string_view name) { return text.starts_with(name); });
         });
}

}  // namespace

std::optional<std::vector<int>> parse_number_list(std::string_view text) {
  text = trimmed(text);
  std::vector<int> numbers;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    const std::size_t dash = item.find('-');
    const auto first = number_of(item.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : number_of(item.substr(dash + 1));
    if (!first || !last || *last < *first || (!numbers.empty() && *first <= numbers.back())) return std::nullopt;
    for (int number = *first; number <= *last; ++number) numbers.push_back(number);
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
    if (text.empty()) return std::nullopt;
  }
  return numbers;
}

UsableParts parse_usable_parts(std::string_view status) {
  const auto list = [&](std::string_view key) {
    return parse_number_list(value_of(status, key)).value_or(std::vector<int>{});
  };
  return {list("Cpus_allowed_list"), list("Mems_allowed_list")};
}

UsableParts usable_parts() {
  UsableParts usable = parse_usable_parts(text_of("/proc/self/status"));
  if (const char* const before = std::getenv(std::string(kCoresBefore).c_str()))
    if (auto cores = parse_number_list(before); cores && !cores->empty()) usable.cores = std::move(*cores);
  return usable;
}

std::vector<MemoryNode> memory_nodes(const std::string& system, const UsableParts& usable) {
  const std::string folder = system + "/node/";
  const std::vector<int> online = parse_number_list(text_of(folder + "online")).value_or(std::vector<int>{});
  const auto with_memory = parse_number_list(text_of(folder + "has_memory"));
  std::vector<MemoryNode> nodes;
  for (const int number : with_memory ? common_numbers(online, *with_memory) : online) {
    if (!usable.nodes.empty() && !std::ranges::binary_search(usable.nodes, number)) continue;
    const auto cores = parse_number_list(text_of(folder + "node" + std::to_string(number) + "/cpulist"));
    MemoryNode node{.number = number, .cores = common_numbers(cores.value_or(std::vector<int>{}), usable.cores)};
    if (!node.cores.empty()) nodes.push_back(std::move(node));
  }
  return nodes;
}

std::vector<std::string> node_binding(const std::string& system, const UsableParts& usable, char* const* arguments,
                                      char* const* environment) {
  const std::vector<MemoryNode> nodes = memory_nodes(system, usable);
  if (nodes.size() < 2 || has_decided(arguments, environment)) return {};
  std::vector<int> placed;
  std::string places;
  for (const MemoryNode& node : nodes) {
    placed.insert(placed.end(), node.cores.begin(), node.cores.end());
    places += (places.empty() ? "{" : ",{") + runs_text(node.cores, true) + "}";
  }
  std::ranges::sort(placed);
  // Cores of a node without memory would be left out.
  if (placed != usable.cores || parse_number_list(text_of(system + "/cpu/online")) != usable.cores) return {};
  return {"OMP_PROC_BIND=close", "OMP_PLACES=" + places,
          std::string(kCoresBefore) + "=" + runs_text(usable.cores, false)};
}

std::string node_hint(std::span<const MemoryNode> nodes) {
  if (nodes.size() < 2) return "";
  std::string cores = std::to_string(nodes[0].cores.size());
  const auto is_like_first = [&](const MemoryNode& node) { return node.cores.size() == nodes[0].cores.size(); };
  if (!std::ranges::all_of(nodes, is_like_first))
    for (const MemoryNode& node : nodes.subspan(1)) cores += ", " + std::to_string(node.cores.size());
  const std::string count = std::to_string(nodes.size());
  return count + " memory nodes of " + cores +
         " cores: one process for each keeps its memory near its cores: mpirun -n " + count +
         " --map-by numa bezel train …";
}

}  // namespace bezel::io
