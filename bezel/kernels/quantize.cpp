#include "bezel/kernels/quantize.h"

#include <ATen/ATen.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {
namespace {

constexpr float kSmallestScale = 1e-38f;  // what a block of zeros is divided by

}  // namespace

FourBitCodes quantize_4bit_plain(const torch::Tensor& x, std::int64_t block, const torch::Tensor& bounds,
                                 const torch::Tensor& order) {
  const torch::Tensor blocks = x.view({-1, block});
  const torch::Tensor largest = std::get<0>(blocks.abs().max(-1));  // [blocks]
  const torch::Tensor scaled =
      blocks.mul(at::reciprocal(largest.clamp_min(kSmallestScale)).unsqueeze(1)).clamp_(-1, 1).view({-1});
  const torch::Tensor codes = order.index_select(0, at::bucketize(scaled, bounds, /*out_int32=*/true)).view({-1, 2});
  return {codes.select(1, 0).mul(16).add_(codes.select(1, 1)), largest};
}

FourBitCodes quantize_4bit(const torch::Tensor& x, std::int64_t block, const torch::Tensor& bounds,
                           const torch::Tensor& order) {
  TORCH_CHECK(x.numel() % block == 0 && block % 2 == 0, x.numel(), " elements in blocks of ", block);
  if (!may_loop(x) || !x.is_contiguous()) return quantize_4bit_plain(x, block, bounds, order);
  FourBitCodes made{at::empty({x.numel() / 2}, x.options().dtype(torch::kByte)),
                    at::empty({x.numel() / block}, x.options())};
  const simd::ToFourBit arguments{x.const_data_ptr<float>(),
                                  bounds.const_data_ptr<float>(),
                                  order.const_data_ptr<std::uint8_t>(),
                                  kSmallestScale,
                                  block,
                                  made.packed.data_ptr<std::uint8_t>(),
                                  made.scales.data_ptr<float>()};
  simd::for_rows(simd::weight_kernels().to_four_bit, arguments, x.numel() / block, block);
  return made;
}

}  // namespace bezel::kernels
