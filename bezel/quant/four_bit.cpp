#include "bezel/quant/four_bit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/error.h"
#include "bezel/io/divide_up.h"
#include "bezel/kernels/dequantize.h"
#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/quantize.h"
#include "bezel/quant/pinned_codes.h"
#include "bezel/quant/tiled.h"

namespace bezel::quant {
namespace {

using torch::Tensor;

// Quantiles of the normal distribution, with an exact zero (QLoRA, appendix E).
constexpr std::array<float, 16> kNf4 = {-1.0f,
                                        -0.6961928009986877f,
                                        -0.5250730514526367f,
                                        -0.39491748809814453f,
                                        -0.28444138169288635f,
                                        -0.18477343022823334f,
                                        -0.09105003625154495f,
                                        0.0f,
                                        0.07958029955625534f,
                                        0.16093020141124725f,
                                        0.24611230194568634f,
                                        0.33791524171829224f,
                                        0.44070982933044434f,
                                        0.5626170039176941f,
                                        0.7229568362236023f,
                                        1.0f};
// Sign, two bits of exponent, one of mantissa; the upper half repeats the lower one with a minus.
constexpr std::array<float, 8> kFp4TimesTwelve = {0.0f, 0.0625f, 8.0f, 12.0f, 4.0f, 6.0f, 2.0f, 3.0f};
constexpr float kSmallestScale = 1e-38f;
constexpr std::int64_t kNestedBlock = 256;

std::int64_t count_of(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

// The 8-bit map that bitsandbytes quantizes scales with: for each power of ten a linear fraction, the finer the larger,
// both signs, and 0 and 1. Reference: create_dynamic_map (arXiv:1511.04561).
Tensor dynamic_map() {
  std::vector<float> values{0.0f, 1.0f};
  for (int exponent = 0; exponent < 7; ++exponent) {
    const Tensor bounds = at::linspace(0.1, 1.0, (1 << exponent) + 1, at::kFloat);
    const Tensor means = (bounds.slice(0, 0, -1) + bounds.slice(0, 1)) / 2.0;
    const Tensor scaled = means * std::pow(10.0, exponent - 6);
    for (std::int64_t i = 0; i < scaled.size(0); ++i) {
      const auto value = scaled[i].item<float>();
      values.insert(values.end(), {value, -value});
    }
  }
  std::ranges::sort(values);
  return at::tensor(values, at::kFloat);
}

// The nearest entry of the map, for a value that was rounded to one of 65,536 steps between -1 and 1 first, as
// bitsandbytes does on the CPU.
std::uint8_t nearest(const float* midpoints, float value) {
  constexpr float kHalfSteps = 32767.5f;
  const float step = std::floor(std::clamp((value + 1.0f) * kHalfSteps + 0.5f, 0.0f, 2 * kHalfSteps));
  return static_cast<std::uint8_t>(std::lower_bound(midpoints, midpoints + 255, step / kHalfSteps - 1.0f) - midpoints);
}

void nest_scales(FourBit& matrix) {
  NestedScales nested;
  nested.map = dynamic_map();
  nested.block_size = kNestedBlock;
  nested.offset = matrix.scales.mean().item<float>();
  const Tensor centred = matrix.scales - nested.offset;
  const std::int64_t count = centred.size(0);
  nested.scales = at::empty({io::divide_up(count, kNestedBlock)}, at::kFloat);
  Tensor codes = at::empty({count}, at::kByte);
  const Tensor between = (nested.map.slice(0, 0, -1) + nested.map.slice(0, 1)) * 0.5;
  const auto* midpoints = between.const_data_ptr<float>();
  const auto* values = centred.const_data_ptr<float>();
  for (std::int64_t begin = 0; begin < count; begin += kNestedBlock) {
    const std::int64_t end = std::min(begin + kNestedBlock, count);
    float largest = 0.0f;
    for (std::int64_t i = begin; i < end; ++i) largest = std::max(largest, std::fabs(values[i]));
    nested.scales[begin / kNestedBlock] = largest;
    const float inverse = 1.0f / largest;
    // Scales that are all alike: 0 times infinity, for which bitsandbytes' search ends at the first entry.
    for (std::int64_t i = begin; i < end; ++i)
      codes.data_ptr<std::uint8_t>()[i] = largest == 0.0f ? 0 : nearest(midpoints, values[i] * inverse);
  }
  matrix.scales = codes;
  matrix.nested = std::move(nested);
}

class FourBitQuantized final : public QuantizedMatrix {
 public:
  explicit FourBitQuantized(FourBit matrix)
      : matrix_(std::move(matrix)),
        columns_(matrix_.shape.back()),
        format_{four_bit_table(matrix_.type).to(matrix_.packed.device()), matrix_.block_size, matrix_.value_dtype} {}

  Tensor make(std::int64_t begin, std::int64_t count, torch::ScalarType dtype) const override {
    const std::int64_t first = begin * columns_, elements = count * columns_;
    return kernels::dequantize_4bit(matrix_.packed, scales(first, elements), first, elements, format_, dtype)
        .view({count, columns_});
  }

  Tensor make_rows(const Tensor& index, torch::ScalarType dtype) const override {
    if (!kernels::may_loop(matrix_.packed)) return rows_on_device(index, dtype);
    const Tensor host = index.to(torch::kCPU);
    std::vector<Tensor> rows;
    for (std::int64_t i = 0; i < host.size(0); ++i) rows.push_back(make(host[i].item<std::int64_t>(), 1, dtype));
    return at::cat(rows);
  }

  kernels::MakeWindow windows(std::int64_t begin, std::int64_t count) const override {
    const std::int64_t first = begin * columns_;
    return kernels::windows_4bit(matrix_.packed, scales(first, count * columns_), first, columns_, format_);
  }

  Tensor gemv(std::int64_t begin, std::int64_t count, const Tensor& x) const override {
    const std::int64_t first = begin * columns_;
    if (!kernels::has_gemv_4bit(x, matrix_.packed, format_)) return {};
    return kernels::gemv_4bit(x, matrix_.packed, scales(first, count * columns_), first, count, format_);
  }

  void pin() const override {
    unpinned_.pin(matrix_, [this] {
      FourBit pinned = matrix_;
      pinned.packed = pinned_codes(matrix_.packed);
      pinned.scales = scales(0, count_of(matrix_.shape));
      pinned.nested.reset();
      return pinned;
    });
  }
  void unpin() const override { unpinned_.unpin(matrix_); }

  torch::Device device() const override { return matrix_.packed.device(); }
  std::int64_t bytes() const override {
    const std::int64_t scales = static_cast<std::int64_t>(matrix_.scales.nbytes());
    return static_cast<std::int64_t>(matrix_.packed.nbytes()) + scales +
           (matrix_.nested ? static_cast<std::int64_t>(matrix_.nested->scales.nbytes()) : 0);
  }
  std::string storage() const override { return matrix_.type == FourBitType::kNf4 ? "nf4" : "fp4"; }

  std::shared_ptr<const QuantizedMatrix> to(torch::Device device) const override {
    FourBit moved = unpinned_.of(matrix_);
    moved.packed = moved.packed.to(device);
    moved.scales = moved.scales.to(device);
    if (moved.nested) {
      moved.nested->map = moved.nested->map.to(device);
      moved.nested->scales = moved.nested->scales.to(device);
    }
    return std::make_shared<FourBitQuantized>(std::move(moved));
  }

 private:
  // Element by element, without a read-back of `index`.
  Tensor rows_on_device(const Tensor& index, torch::ScalarType dtype) const {
    const Tensor place = index.unsqueeze(1) * columns_ + at::arange(columns_, index.options());  // [N, in]
    const Tensor element = place.flatten(), block = at::div(element, matrix_.block_size, "floor");
    const Tensor bytes = matrix_.packed.flatten().index_select(0, at::div(element, 2, "floor"));
    const Tensor codes = at::where(element.remainder(2) == 0, bytes.div(16, "floor"), bytes.remainder(16));
    Tensor scale = matrix_.scales.index_select(0, block);
    if (matrix_.nested) scale = unnested(*matrix_.nested, scale, block);
    const Tensor values = format_.table.index_select(0, codes.to(torch::kInt)) * scale;
    return values.to(format_.value_dtype).to(dtype).view(place.sizes());
  }

  // Scales of the blocks that the elements [first, first + count) are in, float32.
  Tensor scales(std::int64_t first, std::int64_t count) const {
    const std::int64_t begin = first / matrix_.block_size, end = io::divide_up(first + count, matrix_.block_size);
    const Tensor part = matrix_.scales.narrow(0, begin, end - begin);
    if (!matrix_.nested) return part;
    const NestedScales& nested = *matrix_.nested;
    if (kernels::may_loop(part)) return host_scales(nested, part, begin);
    return unnested(nested, part, at::arange(begin, end, part.options().dtype(torch::kLong)));
  }

  // The scales of `block` int64 [N], from their codes.
  static Tensor unnested(const NestedScales& nested, const Tensor& codes, const Tensor& block) {
    return nested.map.index_select(0, codes.to(torch::kInt)) *
               nested.scales.index_select(0, at::div(block, nested.block_size, "floor")) +
           nested.offset;
  }

  // The same without a tensor operation for each step: this runs for every tile of every product.
  static Tensor host_scales(const NestedScales& nested, const Tensor& codes, std::int64_t begin) {
    Tensor out = at::empty(codes.sizes(), at::kFloat);
    const auto* code = codes.const_data_ptr<std::uint8_t>();
    const auto *map = nested.map.const_data_ptr<float>(), *scale = nested.scales.const_data_ptr<float>();
    auto* to = out.data_ptr<float>();
    const std::int64_t block = nested.block_size;
    at::parallel_for(0, codes.size(0), 16384, [&](std::int64_t from, std::int64_t until) {
      for (std::int64_t i = from; i < until;) {
        const std::int64_t end = std::min(until, (begin + i) / block * block + block - begin);
        for (const float by = scale[(begin + i) / block]; i < end; ++i) to[i] = map[code[i]] * by + nested.offset;
      }
    });
    return out;
  }

  mutable FourBit matrix_;  // while pinned with its scales in float32, which each token would make anew
  mutable Unpinned<FourBit> unpinned_;
  std::int64_t columns_;
  kernels::FourBitFormat format_;
};

void check(const FourBit& matrix, const std::string& name) {
  const auto fail = [&](const char* what, std::int64_t got, std::int64_t wanted) {
    throw Error("tensor '", name, "': ", what, " has ", got, " elements, a matrix of its shape in blocks of ",
                matrix.block_size, " needs ", wanted, "; the quantized checkpoint is damaged");
  };
  const std::int64_t elements = count_of(matrix.shape), blocks = io::divide_up(elements, matrix.block_size);
  if (matrix.packed.numel() != io::divide_up(elements, 2))
    fail("the packed weight", matrix.packed.numel(), io::divide_up(elements, 2));
  if (matrix.scales.numel() != blocks) fail("absmax", matrix.scales.numel(), blocks);
  const Tensor& scales = matrix.nested ? matrix.nested->scales : matrix.scales;
  if (matrix.nested) {
    const std::int64_t outer = io::divide_up(blocks, matrix.nested->block_size);
    if (scales.numel() != outer) fail("nested_absmax", scales.numel(), outer);
    if (matrix.nested->map.numel() != 256) fail("nested_quant_map", matrix.nested->map.numel(), 256);
  }
  if (!scales.isfinite().all().item<bool>() || (matrix.nested && !std::isfinite(matrix.nested->offset)))
    throw Error("tensor '", name, "': a block scale is NaN or Inf; the quantized checkpoint is damaged");
}

}  // namespace

Tensor four_bit_table(FourBitType type) {
  if (type == FourBitType::kNf4) return at::tensor(at::ArrayRef<float>(kNf4.data(), kNf4.size()), at::kFloat);
  const Tensor half =
      at::tensor(at::ArrayRef<float>(kFp4TimesTwelve.data(), kFp4TimesTwelve.size()), at::kFloat) / 12.0;
  return at::cat({half, -half});
}

FourBit quantize_4bit(const Tensor& source, FourBitType type, bool double_quant) {
  TORCH_CHECK(source.is_floating_point() && source.is_cpu(), "quantizes floating matrices on the CPU");
  FourBit matrix;
  matrix.type = type;
  matrix.shape = source.sizes().vec();
  matrix.value_dtype = source.scalar_type();
  const Tensor table = four_bit_table(type);
  const Tensor sorting = table.argsort(), order = sorting.to(torch::kByte);
  const Tensor sorted = table.index_select(0, sorting);
  const Tensor bounds = (sorted.slice(0, 0, -1) + sorted.slice(0, 1)) / 2;
  const Tensor flat = source.contiguous().view({-1});
  const std::int64_t elements = flat.size(0), block = matrix.block_size;
  matrix.packed = at::empty({io::divide_up(elements, 2)}, at::kByte);
  matrix.scales = at::empty({io::divide_up(elements, block)}, at::kFloat);
  const std::int64_t slice = std::int64_t{1} << 20;  // a whole number of blocks
  for (std::int64_t begin = 0; begin < elements; begin += slice) {
    const std::int64_t count = std::min(slice, elements - begin), full = count / block * block;
    const Tensor x = flat.narrow(0, begin, count).to(torch::kFloat);
    const kernels::FourBitCodes codes = kernels::quantize_4bit(x.narrow(0, 0, full), block, bounds, order);
    matrix.packed.narrow(0, begin / 2, full / 2).copy_(codes.packed);
    matrix.scales.narrow(0, begin / block, full / block).copy_(codes.scales);
    if (full == count) continue;
    // The last block is not a whole one: bitsandbytes divides there.
    const Tensor rest = x.narrow(0, full, count - full);
    const Tensor most = rest.abs().max().clamp_min(kSmallestScale);
    matrix.scales[(begin + full) / block] = most;
    const Tensor scaled = at::constant_pad_nd(rest.div(most).clamp_(-1, 1), {0, rest.size(0) % 2});
    const Tensor pairs = order.index_select(0, at::bucketize(scaled, bounds, /*out_int32=*/true)).view({-1, 2});
    matrix.packed.narrow(0, (begin + full) / 2, pairs.size(0))
        .copy_(pairs.select(1, 0).mul(16).add_(pairs.select(1, 1)));
  }
  if (double_quant) nest_scales(matrix);
  return matrix;
}

Tensor dequantize(const FourBit& matrix) {
  const std::int64_t rows = count_of(matrix.shape) / matrix.shape.back();
  return FourBitQuantized(matrix).make(0, rows, matrix.value_dtype).view(matrix.shape);
}

std::shared_ptr<const Weight> four_bit_weight(FourBit matrix, const std::string& name) {
  check(matrix, name);
  std::vector<std::int64_t> shape = matrix.shape;
  return tiled_weight(std::make_shared<FourBitQuantized>(std::move(matrix)), std::move(shape));
}

}  // namespace bezel::quant
