#pragma once

#include <cstdint>

#include "bezel/train/adamw.h"
#include "bezel/train/optimizer_settings.h"
#include "bezel/train/update_rule.h"

namespace bezel::train {

/// Elements that share a scale.
inline constexpr std::int64_t kMomentBlock = 256;

/// The 256 values, ascending in -1 … 1 or 0 … 1, that the codes of a moment represent: float32 [256]. Reference:
/// bitsandbytes' create_dynamic_map.
torch::Tensor dynamic_map(bool is_signed);

/// Codes, uint8 of the shape of `values`, of the nearest values of a map, and the largest magnitude of each block,
/// float32 [blocks]. Reference: quantize_blockwise of bitsandbytes' default backend.
struct BlockCodes {
  torch::Tensor codes;
  torch::Tensor absmax;
};
BlockCodes quantize_blocks(const torch::Tensor& values, const torch::Tensor& map);
torch::Tensor dequantize_blocks(const BlockCodes& blocks, const torch::Tensor& map);

/// Whether a parameter is large enough for moments quantized.
bool takes_eight_bits(const torch::Tensor& parameter, const OptimizerSettings& settings);

/// AdamW whose moments are stored as codes of 8 bits between updates. Reference: bitsandbytes' AdamW8bit. Slots:
/// exp_avg and exp_avg_sq, uint8 of the parameter's shape, exp_avg_absmax and exp_avg_sq_absmax, float32 [blocks].
class AdamW8bit : public UpdateRule {
 public:
  /// Keeps the values of its codes on `device`, that of the parameters.
  AdamW8bit(const OptimizerSettings& settings, torch::Device device);
  std::vector<Slot> slots(const torch::Tensor& parameter) const override;
  void apply(const Update& update) const override;

 private:
  AdamW adamw_;
  torch::Tensor signed_map_, unsigned_map_;
};

}  // namespace bezel::train
