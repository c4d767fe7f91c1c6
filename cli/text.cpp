#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "bezel/error.h"
#include "cli/command.h"
#include "cli/one_line.h"

namespace bezel::cli {

std::string with_commas(long long value) {
  std::string digits = std::to_string(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > first + 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string counted(long long count, std::string_view noun) {
  return with_commas(count) + " " + std::string(noun) + (count == 1 ? "" : "s");
}

void print_dropped_labels(long long count) {
  if (count > 0)
    std::fprintf(stderr, "note: %s dropped: the position before is padding, which sees no key and predicts nothing\n",
                 counted(count, "label").c_str());
}

std::string bytes_text(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit) bytes /= 1024;
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, kUnits[unit]);
  return buffer;
}

std::size_t parse_bytes(const std::string& flag, const std::string& text) {
  const auto refuse = [&] {
    throw Error(ErrorKind::kConfig, flag, ": got '", text, "', expected a size such as 5GB, 500MB, 2GiB or 1000000");
  };
  if (text.empty() || !std::isdigit(static_cast<unsigned char>(text.front()))) refuse();
  char* end = nullptr;
  double bytes = std::strtod(text.c_str(), &end);
  std::string unit;
  for (; *end != '\0'; ++end)
    if (*end != ' ') unit.push_back(static_cast<char>(std::toupper(static_cast<unsigned char>(*end))));
  const std::string powers = "KMGT";
  if (!unit.empty() && unit != "B") {
    const std::size_t power = powers.find(unit.front());
    const bool binary = unit.size() == 3 && unit.substr(1) == "IB";
    if (power == std::string::npos || (!binary && unit.substr(1) != "B")) refuse();
    bytes *= std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(power) + 1);
  }
  if (!(bytes >= 1 && bytes < 1e18)) refuse();
  return static_cast<std::size_t>(bytes);
}

void print_warnings(const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) std::fprintf(stderr, "warning: %s\n", one_line(warning).c_str());
}

void warn_of_flat_layout(const std::string& folder) {
  std::fprintf(stderr,
               "warning: %s is in the flat key layout (`...q_proj.weight`). Bezel reads it; released transformers does "
               "not: it starts the towers' layers anew with random weights, with no more than a report. `bezel convert "
               "--layout nested` gives the released layout.\n",
               folder.c_str());
}

}  // namespace bezel::cli
