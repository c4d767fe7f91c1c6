#include "bezel/train/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace bezel::train {
namespace {

// The whole number in a file of one line; the largest number where there is none ("max").
std::int64_t number_in(const char* path) {
  std::ifstream file(path);
  std::int64_t value = 0;
  return file >> value ? value : std::numeric_limits<std::int64_t>::max();
}

// What the layers of a tower keep for each row: the inputs of norms and projections, gate and up, and for attention
// what enters and leaves it.
std::int64_t bytes_per_row(std::int64_t hidden, std::int64_t feed_forward, std::int64_t attention,
                           std::int64_t element_bytes) {
  return element_bytes * (8 * hidden + 2 * feed_forward + 6 * attention);
}

}  // namespace

std::int64_t available_memory_bytes() {
  std::ifstream file("/proc/meminfo");
  std::int64_t available = std::numeric_limits<std::int64_t>::max();
  for (std::string name; file >> name;) {
    if (name == "MemAvailable:" && file >> available) {
      available *= 1024;
      break;
    }
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  const std::int64_t limit = number_in("/sys/fs/cgroup/memory.max");
  if (limit == std::numeric_limits<std::int64_t>::max()) return available;
  return std::min(available, limit - std::min(limit, number_in("/sys/fs/cgroup/memory.current")));
}

std::int64_t activation_bytes(const gemma4::ModelConfig& config, const StepSize& size, std::int64_t element_bytes,
                              bool recompute) {
  std::int64_t bytes = 0, largest = 0;
  const auto add = [&](std::int64_t rows, std::int64_t layers, std::int64_t hidden, std::int64_t row_bytes) {
    bytes += rows * layers * (recompute ? element_bytes * hidden : row_bytes);
    largest = std::max(largest, layers > 0 ? rows * row_bytes : 0);
  };
  for (const gemma4::TextLayerConfig& layer : config.text.layers)
    add(size.tokens, 1, config.text.hidden_size + config.text.hidden_size_per_layer_input,
        bytes_per_row(config.text.hidden_size, layer.intermediate_size, config.text.num_heads * layer.head_dim,
                      element_bytes));
  if (config.vision)
    add(size.image_patches, config.vision->num_layers, config.vision->hidden_size,
        bytes_per_row(config.vision->hidden_size, config.vision->intermediate_size,
                      config.vision->num_heads * config.vision->head_dim, element_bytes));
  if (config.audio)
    add(size.audio_frames, config.audio->num_layers, config.audio->hidden_size,
        bytes_per_row(2 * config.audio->hidden_size, 8 * config.audio->hidden_size, config.audio->hidden_size,
                      element_bytes));
  return bytes + (recompute ? largest : 0);
}

}  // namespace bezel::train
