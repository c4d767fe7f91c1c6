#include "bezel/report/sparkline.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace bezel::report {

std::string sparkline(std::span<const double> values, std::size_t width) {
  std::vector<double> finite;
  for (const double value : values)
    if (std::isfinite(value)) finite.push_back(value);
  const std::size_t cells = std::min(width, finite.size());
  std::vector<double> means;
  for (std::size_t i = 0; i < cells; ++i) {
    const std::size_t begin = i * finite.size() / cells, end = (i + 1) * finite.size() / cells;
    double sum = 0.0;
    for (std::size_t j = begin; j < end; ++j) sum += finite[j];
    means.push_back(sum / static_cast<double>(end - begin));
  }
  if (means.empty()) return "";
  const auto [low, high] = std::ranges::minmax(means);
  constexpr const char* kBlocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string out;
  for (const double mean : means)
    out += kBlocks[high > low ? static_cast<int>(std::lround(7 * (mean - low) / (high - low))) : 3];
  return out;
}

}  // namespace bezel::report
