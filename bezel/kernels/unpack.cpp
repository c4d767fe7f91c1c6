#include "bezel/kernels/unpack.h"

#include <vector>

#include <ATen/ATen.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {
namespace {

using torch::Tensor;

struct Part {
  std::int64_t begin, size;
};

// The offset of the float16 scales of a block, which follow each other.
Part scales_of(io::GgufType type) {
  switch (type) {
    case io::GgufType::kQ4_1:
    case io::GgufType::kQ5_1:
    case io::GgufType::kQ4_K:
    case io::GgufType::kQ5_K:
      return {0, 4};
    case io::GgufType::kQ2_K:
      return {80, 4};
    case io::GgufType::kQ3_K:
      return {108, 2};
    case io::GgufType::kQ6_K:
      return {208, 2};
    default:
      return {0, 2};
  }
}

// [blocks, bytes] -> part of each, [blocks, size]
Tensor cut(const Tensor& blocks, std::int64_t begin, std::int64_t size) { return blocks.narrow(1, begin, size); }

// The float16 at byte `begin` of each block, float32 [blocks, 1].
Tensor half_at(const Tensor& blocks, std::int64_t begin) {
  return cut(blocks, begin, 2).contiguous().view(torch::kHalf).to(torch::kFloat);
}

// Lower halves of `group` bytes, then their upper halves, group by group: [blocks, n] -> [blocks, 2 n]
Tensor nibbles(const Tensor& bytes, std::int64_t group) {
  const Tensor grouped = bytes.reshape({bytes.size(0), -1, 1, group});
  return at::cat({grouped.bitwise_and(15), grouped.div(16, "floor")}, 2).flatten(1);
}

// Bit `bit` of each byte, 0 or 1.
Tensor bit_of(const Tensor& bytes, int bit) { return bytes.div(1 << bit, "floor").bitwise_and(1); }

// 4 bytes of each block as 32 bits, the lowest first: [blocks, 4] -> [blocks, 32]
Tensor bits(const Tensor& bytes) {
  std::vector<Tensor> each;
  for (int bit = 0; bit < 8; ++bit) each.push_back(bit_of(bytes, bit));
  return at::stack(each, 2).flatten(1);
}

Tensor plain_nibbles(const Tensor& blocks, bool has_minimum, bool has_fifth_bit) {
  const std::int64_t codes_begin = (has_minimum ? 4 : 2) + (has_fifth_bit ? 4 : 0);
  Tensor codes = nibbles(cut(blocks, codes_begin, 16), 16);
  if (has_fifth_bit) codes = codes + bits(cut(blocks, codes_begin - 4, 4)) * 16;
  const Tensor whole = codes.to(torch::kFloat);
  if (has_minimum) return whole * half_at(blocks, 0) + half_at(blocks, 2);
  return (whole - (has_fifth_bit ? 16.0 : 8.0)) * half_at(blocks, 0);
}

Tensor plain_bytes(const Tensor& blocks) {
  return cut(blocks, 2, 32).contiguous().view(torch::kChar).to(torch::kFloat) * half_at(blocks, 0);
}

Tensor plain_super_nibbles(const Tensor& blocks, bool has_fifth_bit) {
  const Tensor first = cut(blocks, 4, 4), second = cut(blocks, 8, 4), both = cut(blocks, 12, 4);
  const Tensor scales =
      at::cat({first.bitwise_and(63), both.bitwise_and(15) + first.div(64, "floor") * 16}, 1).to(torch::kFloat);
  const Tensor minima =
      at::cat({second.bitwise_and(63), both.div(16, "floor") + second.div(64, "floor") * 16}, 1).to(torch::kFloat);
  Tensor codes = nibbles(cut(blocks, has_fifth_bit ? 48 : 16, 128), 32).view({-1, 8, 32});
  if (has_fifth_bit) {
    std::vector<Tensor> fifth;
    for (int part = 0; part < 8; ++part) fifth.push_back(bit_of(cut(blocks, 16, 32), part));
    codes = codes + at::stack(fifth, 1) * 16;
  }
  const Tensor scale = (half_at(blocks, 0) * scales).unsqueeze(2), minimum = (half_at(blocks, 2) * minima).unsqueeze(2);
  return (codes.to(torch::kFloat) * scale - minimum).flatten(1);
}

// Four pairs of bits of each byte, 32 bytes at a time: [blocks, 64] -> [blocks, 256]
Tensor pairs_of_bits(const Tensor& bytes) {
  const Tensor halves = bytes.reshape({-1, 2, 1, 32});
  std::vector<Tensor> pairs;
  for (int quarter = 0; quarter < 4; ++quarter) pairs.push_back(halves.div(1 << (2 * quarter), "floor").bitwise_and(3));
  return at::cat(pairs, 2).flatten(1);
}

// Codes of 16 groups times the scale of each: [blocks, 256], [blocks, 16] -> [blocks, 16, 16]
Tensor scaled_groups(const Tensor& codes, const Tensor& scales) {
  return codes.view({-1, 16, 16}) * scales.unsqueeze(2);
}

Tensor plain_six_bits(const Tensor& blocks) {
  const Tensor codes = nibbles(cut(blocks, 0, 128), 64) + pairs_of_bits(cut(blocks, 128, 64)) * 16;
  const Tensor scales = cut(blocks, 192, 16).contiguous().view(torch::kChar).to(torch::kFloat) * half_at(blocks, 208);
  return scaled_groups(codes.to(torch::kFloat) - 32.0, scales).flatten(1);
}

Tensor plain_two_bits(const Tensor& blocks) {
  const Tensor both = cut(blocks, 0, 16);
  const Tensor scales = both.bitwise_and(15).to(torch::kFloat) * half_at(blocks, 80);
  const Tensor minima = both.div(16, "floor").to(torch::kFloat) * half_at(blocks, 82);
  const Tensor codes = pairs_of_bits(cut(blocks, 16, 64)).to(torch::kFloat);
  return (scaled_groups(codes, scales) - minima.unsqueeze(2)).flatten(1);
}

Tensor plain_three_bits(const Tensor& blocks) {
  const Tensor packed = cut(blocks, 96, 8), upper = cut(blocks, 104, 4);
  std::vector<Tensor> above, third;
  for (int i = 0; i < 4; ++i) above.push_back(upper.div(1 << (2 * i), "floor").bitwise_and(3));
  const Tensor lower = at::cat({packed.bitwise_and(15), packed.div(16, "floor")}, 1);
  const Tensor scales = ((lower + at::cat(above, 1) * 16).to(torch::kFloat) - 32.0) * half_at(blocks, 108);
  for (int i = 0; i < 8; ++i) third.push_back(bit_of(cut(blocks, 0, 32), i));
  const Tensor codes = pairs_of_bits(cut(blocks, 32, 64)) + at::cat(third, 1) * 4;
  return scaled_groups(codes.to(torch::kFloat) - 4.0, scales).flatten(1);
}

// What the codes of ggml's tables stand for.
Tensor uneven(const Tensor& codes) {
  const Tensor table = at::tensor({-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113},
                                  codes.options().dtype(torch::kFloat));
  return table.index_select(0, codes.flatten().to(torch::kLong)).view(codes.sizes());
}

Tensor twice_e2m1(const Tensor& codes) {
  const Tensor table =
      at::tensor({0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}, codes.options().dtype(torch::kFloat));
  return table.index_select(0, codes.flatten().to(torch::kLong)).view(codes.sizes());
}

Tensor plain_super_uneven(const Tensor& blocks) {
  const Tensor pairs = cut(blocks, 4, 4);
  const Tensor lower = at::stack({pairs.bitwise_and(15), pairs.div(16, "floor")}, 2).flatten(1);
  std::vector<Tensor> above;
  for (int i = 0; i < 4; ++i) above.push_back(cut(blocks, 2, 2).div(1 << (2 * i), "floor").bitwise_and(3));
  const Tensor upper = at::stack(above, 2).flatten(1);  // [blocks, 8]
  const Tensor scales = ((lower + upper * 16).to(torch::kFloat) - 32.0) * half_at(blocks, 0);
  const Tensor values = uneven(nibbles(cut(blocks, 8, 128), 16)).view({-1, 8, 32});
  return (values * scales.unsqueeze(2)).flatten(1);
}

Tensor plain_microscaled(const Tensor& blocks) {
  const Tensor exponent = cut(blocks, 0, 1).to(torch::kInt);
  const Tensor small = at::where(exponent == 0, 0x00200000, 0x00400000).to(torch::kInt);
  const Tensor bits = at::where(exponent < 2, small, (exponent - 1) * (1 << 23));
  return twice_e2m1(nibbles(cut(blocks, 1, 16), 16)) * bits.contiguous().view(torch::kFloat);
}

Tensor plain_values(const Tensor& blocks, io::GgufType type) {
  switch (type) {
    case io::GgufType::kQ4_0:
      return plain_nibbles(blocks, false, false);
    case io::GgufType::kQ4_1:
      return plain_nibbles(blocks, true, false);
    case io::GgufType::kQ5_0:
      return plain_nibbles(blocks, false, true);
    case io::GgufType::kQ5_1:
      return plain_nibbles(blocks, true, true);
    case io::GgufType::kQ8_0:
      return plain_bytes(blocks);
    case io::GgufType::kQ2_K:
      return plain_two_bits(blocks);
    case io::GgufType::kQ3_K:
      return plain_three_bits(blocks);
    case io::GgufType::kIQ4_NL:
      return uneven(nibbles(cut(blocks, 2, 16), 16)) * half_at(blocks, 0);
    case io::GgufType::kIQ4_XS:
      return plain_super_uneven(blocks);
    case io::GgufType::kMXFP4:
      return plain_microscaled(blocks);
    case io::GgufType::kQ4_K:
      return plain_super_nibbles(blocks, false);
    case io::GgufType::kQ5_K:
      return plain_super_nibbles(blocks, true);
    default:
      return plain_six_bits(blocks);
  }
}

const simd::PackedLoops& loops_of(io::GgufType type) {
  const simd::Unpackers& loops = simd::unpackers();
  switch (type) {
    case io::GgufType::kQ4_0:
      return loops.q4_0;
    case io::GgufType::kQ4_1:
      return loops.q4_1;
    case io::GgufType::kQ5_0:
      return loops.q5_0;
    case io::GgufType::kQ5_1:
      return loops.q5_1;
    case io::GgufType::kQ8_0:
      return loops.q8_0;
    case io::GgufType::kQ2_K:
      return loops.q2_k;
    case io::GgufType::kQ3_K:
      return loops.q3_k;
    case io::GgufType::kIQ4_NL:
      return loops.iq4_nl;
    case io::GgufType::kIQ4_XS:
      return loops.iq4_xs;
    case io::GgufType::kMXFP4:
      return loops.mxfp4;
    case io::GgufType::kQ4_K:
      return loops.q4_k;
    case io::GgufType::kQ5_K:
      return loops.q5_k;
    default:
      return loops.q6_k;
  }
}

std::int64_t columns_of(const Tensor& rows, io::GgufType type) {
  TORCH_CHECK(io::is_packed(type), "values of type ", io::gguf_type_info(type).name, " are not packed");
  const io::GgufTypeInfo& info = io::gguf_type_info(type);
  return rows.size(1) / info.block_bytes * info.block_elements;
}

}  // namespace

Tensor unpack_plain(const Tensor& rows, io::GgufType type, torch::ScalarType dtype) {
  const std::int64_t columns = columns_of(rows, type);
  const Tensor blocks = rows.reshape({-1, io::gguf_type_info(type).block_bytes});
  return plain_values(blocks, type).view({rows.size(0), columns}).to(dtype);
}

Tensor unpack(const Tensor& rows, io::GgufType type, torch::ScalarType dtype) {
  const bool wide = dtype == torch::kFloat, narrow = dtype == torch::kBFloat16;
  if (!may_loop(rows) || !rows.is_contiguous() || !(wide || narrow)) return unpack_plain(rows, type, dtype);
  const io::GgufTypeInfo& info = io::gguf_type_info(type);
  Tensor out = at::empty({rows.size(0), columns_of(rows, type)}, rows.options().dtype(dtype));
  const simd::Unpack arguments{rows.const_data_ptr<std::uint8_t>(), wide ? out.data_ptr<float>() : nullptr,
                               narrow ? simd::bf16(out) : nullptr};
  simd::for_rows(loops_of(type).unpack, arguments, rows.numel() / info.block_bytes, info.block_elements);
  return out;
}

bool has_packed_product(const Tensor& x, const Tensor& rows) {
  return x.size(0) == 1 && simd::takes({x}) && may_loop(rows) && rows.is_contiguous();
}

Tensor packed_product(const Tensor& x, const Tensor& rows, io::GgufType type) {
  TORCH_CHECK(has_packed_product(x, rows) && columns_of(rows, type) == x.size(1), x.sizes(), " times ", rows.sizes());
  const Tensor wide = x.to(torch::kFloat);
  Tensor y = at::empty({1, rows.size(0)}, x.options());
  const simd::PackedProduct arguments{rows.const_data_ptr<std::uint8_t>(), wide.const_data_ptr<float>(), x.size(1),
                                      simd::bf16(y)};
  simd::for_rows(loops_of(type).product, arguments, rows.size(0), x.size(1));
  return y;
}

bool has_finite_scales(const Tensor& rows, io::GgufType type) {
  const Tensor blocks = rows.reshape({-1, io::gguf_type_info(type).block_bytes});
  constexpr int kLargestExponent = 252;  // 12 halves of the next power are beyond float32; 255 is NaN
  if (type == io::GgufType::kMXFP4) return cut(blocks, 0, 1).le(kLargestExponent).all().item<bool>();
  const Part scales = scales_of(type);
  return cut(blocks, scales.begin, scales.size).contiguous().view(torch::kHalf).isfinite().all().item<bool>();
}

}  // namespace bezel::kernels
