#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bezel/lora/targets.h"

namespace bezel::lora {

/// Makes sure that what is adapted also trains. Of every part of the model (decoder, encoder, one projector) that takes
/// part in an optimizer step for the first time, each tensor of each adapter must have a gradient that is not zero; A
/// and B once the other of the two is not zero itself. Parts whose gradients are all undefined took no part.
class GradientAudit {
 public:
  explicit GradientAudit(const Selection& selection);

  /// Looks at the gradients of step `step` (counted from 1), after backward and before the update.
  /// Throws Error (kDiverged) naming the layers that got nothing.
  void check(std::int64_t step);
  /// Everything has been seen to train.
  bool done() const;
  /// Names of the adapter tensors that have been seen to train, and the same put back.
  std::vector<std::string> seen() const;
  void restore(const std::vector<std::string>& seen);

 private:
  struct Watched {
    std::string name;
    torch::Tensor tensor;
    torch::Tensor factor{};  ///< what the gradient is a multiple of; undefined: it is watched from the first step on
    bool seen = false;
  };
  struct Part {
    std::string name;
    std::vector<Watched> tensors;
    std::int64_t num_layers = 0;
  };

  static bool took_part(const Part& part);

  std::vector<Part> parts_;
};

}  // namespace bezel::lora
