#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "bezel/lora/config.h"

namespace bezel::lora {

/// How PiSSA finds the strongest directions of a matrix; see pissa.h.
struct Pissa {
  std::int64_t iterations = 0;  ///< of the randomized SVD; 0: the exact one
};

/// Of init_lora_weights "pissa" and "pissa_niter_N"; nothing for any other word.
std::optional<Pissa> parse_pissa(std::string_view init);

/// Makes the config of PiSSA that of LoRA of twice the rank and the same scale, which begins like any other.
void double_ranks(LoraConfig& config);

/// Alpha of LoRA of rank 2 r that scales as `alpha` scales rank r.
double doubled_alpha(double alpha, bool use_rslora);

}  // namespace bezel::lora
