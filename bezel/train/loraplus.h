#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace bezel::train {

/// LoRA+: B learns faster than A. Reference: peft 0.21.2, optimizers.create_loraplus_optimizer; arXiv 2402.12354.
struct LoraPlus {
  std::optional<double> ratio;   ///< of B's rate to A's; nothing: all tensors have one rate
  double embedding_rate = 1e-6;  ///< of LoRA on the embeddings
  double learning_rate = 2e-4;   ///< A's
};

/// What the scheduled rate is multiplied with for an adapter tensor: by its key in the adapter's file, and its number
/// of dimensions. B and vectors, such as DoRA's magnitudes, have the ratio.
double rate_factor(const LoraPlus& settings, std::string_view key, std::int64_t num_dimensions);

}  // namespace bezel::train
