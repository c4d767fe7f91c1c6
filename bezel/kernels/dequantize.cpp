#include "bezel/kernels/dequantize.h"

#include <algorithm>
#include <array>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {
namespace {

// 16 codes with their scale multiplied in and rounded, once for each block.
template <typename Value>
std::array<float, 16> scaled_table(const float* table, float scale) {
  std::array<float, 16> scaled{};
  for (std::size_t i = 0; i < 16; ++i) scaled[i] = static_cast<float>(static_cast<Value>(table[i] * scale));
  return scaled;
}

// Elements [begin, end), all of one block.
template <typename Value, typename Out>
void dequantize_block(const std::uint8_t* packed, std::int64_t begin, std::int64_t end, const float* table, float scale,
                      Out* out) {
  const std::array<float, 16> values = scaled_table<Value>(table, scale);
  std::int64_t i = begin;
  if (i % 2 != 0 && i < end) *out++ = static_cast<Out>(values[packed[i++ / 2] & 15]);
  for (; i + 1 < end; i += 2) {
    const std::uint8_t both = packed[i / 2];
    *out++ = static_cast<Out>(values[both >> 4]);
    *out++ = static_cast<Out>(values[both & 15]);
  }
  if (i < end) *out = static_cast<Out>(values[packed[i / 2] >> 4]);
}

template <typename Value, typename Out>
void dequantize_all(const torch::Tensor& packed, const torch::Tensor& scales, std::int64_t first, std::int64_t count,
                    const FourBitFormat& format, torch::Tensor& out) {
  const auto* codes = packed.const_data_ptr<std::uint8_t>();
  const auto* scale = scales.const_data_ptr<float>();
  const auto* table = format.table.const_data_ptr<float>();
  auto* to = out.data_ptr<Out>();
  const std::int64_t block = format.block, first_block = first / block;
  const std::int64_t num_blocks = (first + count + block - 1) / block - first_block;
  at::parallel_for(0, num_blocks, 256, [&](std::int64_t from, std::int64_t until) {
    for (std::int64_t b = from; b < until; ++b) {
      const std::int64_t begin = std::max(first, (first_block + b) * block);
      const std::int64_t end = std::min(first + count, (first_block + b + 1) * block);
      dequantize_block<Value>(codes, begin, end, table, scale[b], to + (begin - first));
    }
  });
}

template <typename Value>
bool dequantize_values(const torch::Tensor& packed, const torch::Tensor& scales, std::int64_t first, std::int64_t count,
                       const FourBitFormat& format, torch::Tensor& out) {
  switch (out.scalar_type()) {
    case torch::kFloat:
      dequantize_all<Value, float>(packed, scales, first, count, format, out);
      return true;
    case torch::kBFloat16:
      dequantize_all<Value, c10::BFloat16>(packed, scales, first, count, format, out);
      return true;
    default:
      return false;
  }
}

// Whole blocks into bfloat16, which rounds as a bfloat16 or float32 value would be; false where the loops do not apply.
bool dequantize_blocks(const torch::Tensor& packed, const torch::Tensor& scales, std::int64_t first, std::int64_t count,
                       const FourBitFormat& format, torch::Tensor& out) {
  if (out.scalar_type() != torch::kBFloat16 || format.value_dtype == torch::kHalf) return false;
  if (format.block % 32 != 0 || first % format.block != 0 || count % format.block != 0) return false;
  const simd::FourBit arguments{packed.const_data_ptr<std::uint8_t>() + first / 2, format.table.const_data_ptr<float>(),
                                scales.const_data_ptr<float>(), format.block, simd::bf16(out)};
  simd::for_rows(simd::weight_kernels().four_bit, arguments, count / format.block, format.block);
  return true;
}

}  // namespace

torch::Tensor dequantize_4bit_plain(const torch::Tensor& packed, const torch::Tensor& scales, std::int64_t first,
                                    std::int64_t count, const FourBitFormat& format, torch::ScalarType dtype) {
  const auto index = at::arange(first, first + count, packed.options().dtype(torch::kLong));
  const torch::Tensor bytes = packed.flatten().index_select(0, at::div(index, 2, "floor"));
  const torch::Tensor codes = at::where(index.remainder(2) == 0, bytes.div(16, "floor"), bytes.remainder(16));
  const torch::Tensor scale = scales.index_select(0, at::div(index, format.block, "floor") - first / format.block);
  const torch::Tensor values = format.table.to(packed.device()).index_select(0, codes.to(torch::kInt)) * scale;
  return values.to(format.value_dtype).to(dtype);
}

torch::Tensor dequantize_4bit(const torch::Tensor& packed, const torch::Tensor& scales, std::int64_t first,
                              std::int64_t count, const FourBitFormat& format, torch::ScalarType dtype) {
  if (may_loop(packed) && packed.is_contiguous()) {
    torch::Tensor out = at::empty({count}, packed.options().dtype(dtype));
    const torch::Tensor block_scales = scales.contiguous();
    const auto run = [&](auto value) {
      return dequantize_values<decltype(value)>(packed, block_scales, first, count, format, out);
    };
    bool done = dequantize_blocks(packed, block_scales, first, count, format, out);
    if (done) return out;
    if (format.value_dtype == torch::kFloat) done = run(float{});
    if (format.value_dtype == torch::kBFloat16) done = run(c10::BFloat16{});
    if (format.value_dtype == torch::kHalf) done = run(c10::Half{});
    if (done) return out;
  }
  return dequantize_4bit_plain(packed, scales, first, count, format, dtype);
}

MakeWindow windows_4bit(const torch::Tensor& packed, const torch::Tensor& scales, std::int64_t first,
                        std::int64_t columns, const FourBitFormat& format) {
  if (!may_loop(packed) || !packed.is_contiguous() || format.value_dtype == torch::kHalf) return {};
  if (format.block != kWindowStep || columns % kWindowStep != 0 || first % columns != 0) return {};
  return [packed, scales = scales.contiguous(), table = format.table, first, columns](
             const Window& window, simd::Bf16* scratch, std::int64_t ld) {
    const std::int64_t begin = window.row * columns + window.column;
    simd::weight_kernels().four_bit_window(
        {packed.const_data_ptr<std::uint8_t>() + (first + begin) / 2, table.const_data_ptr<float>(),
         scales.const_data_ptr<float>() + begin / kWindowStep, columns, window.columns, scratch, ld},
        0, window.rows);
    return WindowRows{scratch, ld};
  };
}

bool has_gemv_4bit(const torch::Tensor& x, const torch::Tensor& packed, const FourBitFormat& format) {
  return x.size(0) == 1 && simd::takes({x}) && may_loop(packed) && packed.is_contiguous() && format.block == 64 &&
         x.size(1) % format.block == 0 && format.value_dtype != torch::kHalf;
}

torch::Tensor gemv_4bit(const torch::Tensor& x, const torch::Tensor& packed, const torch::Tensor& scales,
                        std::int64_t first, std::int64_t rows, const FourBitFormat& format) {
  TORCH_CHECK(has_gemv_4bit(x, packed, format) && first % x.size(1) == 0, "no product of ", x.sizes());
  torch::Tensor parts, halves;  // of x, in the order that the loop takes them in
  if (simd::has_bf16_products()) {
    halves = x.view({-1, 2}).t().contiguous();
  } else {
    // By place in two bytes of codes, in which the earlier of two elements is the upper half.
    const torch::Tensor order = at::tensor({1, 0, 3, 2}, at::kLong);
    parts = x.view({-1, 4}).t().index_select(0, order).to(torch::kFloat);  // [4, K / 4]
  }
  const torch::Tensor block_scales = scales.contiguous();
  torch::Tensor y = at::empty({1, rows}, x.options());
  const simd::FourBitGemv arguments{packed.const_data_ptr<std::uint8_t>() + first / 2,
                                    format.table.const_data_ptr<float>(),
                                    block_scales.const_data_ptr<float>(),
                                    simd::data<float>(parts),
                                    simd::bf16(halves),
                                    x.size(1),
                                    simd::bf16(y)};
  simd::for_rows(simd::weight_kernels().four_bit_vector, arguments, rows, x.size(1));
  return y;
}

}  // namespace bezel::kernels
