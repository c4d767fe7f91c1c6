#pragma once

#include <memory>

#include "bezel/quant/weight.h"

namespace bezel::quant {

/// Holds a copy of a mapped dense matrix, or of a matrix's codes, in huge pages while it lives, and evicts the file's
/// pages: reading the whole matrix for each token is faster from there. Scales of 4-bit codes that are quantized
/// themselves are in float32 meanwhile. The mapping is used again once the last pin of a weight is destroyed. Leaves a
/// dense matrix under 4 MiB, one that is not mapped, and codes under 1 MiB where they are. Create and destroy pins only
/// while no other thread uses the weight. Throws Error (kMemory) when there is no memory for the copy.
class Pin {
 public:
  explicit Pin(std::shared_ptr<const Weight> weight);
  ~Pin();
  Pin(Pin&& other) noexcept = default;
  Pin& operator=(Pin&&) = delete;

 private:
  std::shared_ptr<const Weight> weight_;
};

}  // namespace bezel::quant
