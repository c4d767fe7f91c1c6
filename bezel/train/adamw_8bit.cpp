#include "bezel/train/adamw_8bit.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

namespace bezel::train {

using torch::Tensor;

namespace {

constexpr std::int64_t kDefaultMinSize = 4096;

std::int64_t num_blocks(std::int64_t elements) { return (elements + kMomentBlock - 1) / kMomentBlock; }

// [blocks, kMomentBlock], the last one filled up with zeros.
Tensor in_blocks(const Tensor& values) {
  const std::int64_t missing = num_blocks(values.numel()) * kMomentBlock - values.numel();
  const Tensor flat = values.flatten();
  return (missing == 0 ? flat : at::constant_pad_nd(flat, {0, missing})).view({-1, kMomentBlock});
}

}  // namespace

// A code is a sign, an exponent of ten written as leading zeros, and with what bits are left a place between a tenth of
// that power and the power: the middles of equal parts.
Tensor dynamic_map(bool is_signed) {
  constexpr int kExponents = 7;
  std::vector<float> values = {0.0f, 1.0f};
  for (int i = 0; i < kExponents; ++i) {
    const std::int64_t parts = std::int64_t{1} << (is_signed ? i : i + 1);
    const Tensor bounds = at::linspace(0.1, 1.0, parts + 1, torch::kFloat);
    const Tensor middles = (bounds.narrow(0, 0, parts) + bounds.narrow(0, 1, parts)) / 2.0;
    const Tensor scaled = middles * std::pow(10.0, i - (kExponents - 1));
    for (std::int64_t k = 0; k < parts; ++k) {
      const auto value = scaled[k].item<float>();
      values.push_back(value);
      if (is_signed) values.push_back(-value);
    }
  }
  std::ranges::sort(values);
  return at::tensor(values, torch::kFloat);
}

BlockCodes quantize_blocks(const Tensor& values, const Tensor& map) {
  const Tensor blocks = in_blocks(values);
  const Tensor absmax = blocks.abs().amax(1);  // [blocks]
  const Tensor scaled = blocks.mul(absmax.clamp_min(1e-38).reciprocal().unsqueeze(1)).clamp_(-1.0, 1.0);
  const Tensor bounds = (map.narrow(0, 0, 255) + map.narrow(0, 1, 255)) / 2.0;
  const Tensor codes = at::bucketize(scaled, bounds, /*out_int32=*/true).to(torch::kByte);
  return {codes.flatten().narrow(0, 0, values.numel()).view(values.sizes()), absmax};
}

Tensor dequantize_blocks(const BlockCodes& blocks, const Tensor& map) {
  const Tensor values = map.index_select(0, in_blocks(blocks.codes).flatten().to(torch::kInt));
  const Tensor scaled = values.view({-1, kMomentBlock}).mul(blocks.absmax.unsqueeze(1));
  return scaled.flatten().narrow(0, 0, blocks.codes.numel()).view(blocks.codes.sizes());
}

bool takes_eight_bits(const Tensor& parameter, const OptimizerSettings& settings) {
  return parameter.numel() >= settings.options.min_8bit_size.value_or(kDefaultMinSize);
}

AdamW8bit::AdamW8bit(const OptimizerSettings& settings, torch::Device device)
    : adamw_(settings), signed_map_(dynamic_map(true).to(device)), unsigned_map_(dynamic_map(false).to(device)) {}

std::vector<Slot> AdamW8bit::slots(const Tensor& parameter) const {
  const std::vector<std::int64_t> shape = parameter.sizes().vec(), blocks = {num_blocks(parameter.numel())};
  return {{"exp_avg", shape, torch::kByte},
          {"exp_avg_sq", shape, torch::kByte},
          {"exp_avg_absmax", blocks},
          {"exp_avg_sq_absmax", blocks}};
}

void AdamW8bit::apply(const Update& update) const {
  Tensor exp_avg = dequantize_blocks({update.state[0], update.state[2]}, signed_map_);
  Tensor exp_avg_sq = dequantize_blocks({update.state[1], update.state[3]}, unsigned_map_);
  adamw_.apply(update, exp_avg, exp_avg_sq);
  const BlockCodes first = quantize_blocks(exp_avg, signed_map_), second = quantize_blocks(exp_avg_sq, unsigned_map_);
  update.state[0].copy_(first.codes);
  update.state[2].copy_(first.absmax);
  update.state[1].copy_(second.codes);
  update.state[3].copy_(second.absmax);
}

}  // namespace bezel::train
