#include "bezel/quant/quant_scheme.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <c10/util/accumulate.h>

#include "bezel/error.h"
#include "bezel/io/divide_up.h"
#include "bezel/quant/integer.h"

namespace bezel::quant {
namespace {

using torch::Tensor;

constexpr std::int64_t kBlock = 64;
constexpr std::int64_t kNestedBlock = 256;
// The JSON is padded with spaces to this, so that its size is known before its numbers are.
constexpr std::int64_t kStateBytes = 256;

std::string state_suffix(FourBitType type) {
  return std::string("weight.quant_state.bitsandbytes__") + (type == FourBitType::kNf4 ? "nf4" : "fp4");
}

std::string dtype_name(torch::ScalarType dtype) {
  if (dtype == torch::kBFloat16) return "bfloat16";
  return dtype == torch::kHalf ? "float16" : "float32";
}

Tensor padded_bytes(const std::string& text) {
  TORCH_CHECK(static_cast<std::int64_t>(text.size()) <= kStateBytes, "quant_state of ", text.size(), " bytes");
  Tensor bytes = at::full({kStateBytes}, static_cast<std::int64_t>(' '), at::kByte);
  std::ranges::copy(text, bytes.data_ptr<std::uint8_t>());
  return bytes;
}

StoredParts encode_4bit(const QuantScheme& form, const Tensor& matrix) {
  const FourBit codes = quantize_4bit(matrix, form.type, form.double_quant);
  io::Json state{{"quant_type", form.type == FourBitType::kNf4 ? "nf4" : "fp4"},
                 {"blocksize", codes.block_size},
                 {"dtype", dtype_name(codes.value_dtype)},
                 {"shape", codes.shape}};
  StoredParts parts{{"weight", codes.packed.unsqueeze(1)},
                    {"weight.absmax", codes.scales},
                    {"weight.quant_map", four_bit_table(codes.type)}};
  if (codes.nested) {
    parts["weight.nested_absmax"] = codes.nested->scales;
    parts["weight.nested_quant_map"] = codes.nested->map;
    state["nested_blocksize"] = codes.nested->block_size;
    state["nested_dtype"] = "float32";
    state["nested_offset"] = static_cast<double>(codes.nested->offset);
  }
  parts[state_suffix(form.type)] = padded_bytes(state.dump());
  return parts;
}

StoredParts encode_int8(const Tensor& matrix) {
  const IntegerMatrix codes = quantize_int8(matrix);
  return {{"weight", codes.codes.view(matrix.sizes())},
          {"SCB", codes.scales.squeeze(1)},
          {"weight_format", at::zeros({}, at::kByte)}};  // 0: row by row
}

}  // namespace

QuantScheme form_of(const StoredParts& parts, const std::string& name) {
  if (parts.contains("SCB")) return {.kind = QuantScheme::Kind::kInt8};
  for (const FourBitType type : {FourBitType::kNf4, FourBitType::kFp4}) {
    const auto found = parts.find(state_suffix(type));
    if (found == parts.end()) continue;
    const QuantState state = parse_quant_state(found->second, name);
    if (state.block_size != kBlock || (state.nested && state.nested_block_size != kNestedBlock))
      throw Error(name, ": blocks of ", state.block_size, " elements are read but not written; Bezel writes blocks of ",
                  kBlock);
    return {.type = type, .double_quant = state.nested, .value_dtype = dtype_named(state.dtype)};
  }
  throw Error(name, ": codes of this form are read but not written; Bezel writes bitsandbytes' 4 and 8 bits");
}

std::vector<PartLayout> layout_of(const QuantScheme& form, const std::vector<std::int64_t>& shape) {
  TORCH_CHECK(shape.size() == 2 || shape.size() == 3, "a matrix or a stack of them, not ", shape);
  const std::int64_t elements = c10::multiply_integers(shape);
  if (form.kind == QuantScheme::Kind::kInt8)
    return {{"weight", torch::kChar, shape},
            {"SCB", torch::kFloat, {elements / shape.back()}},
            {"weight_format", torch::kByte, {}}};
  const std::int64_t blocks = io::divide_up(elements, kBlock);
  std::vector<PartLayout> parts{{"weight", torch::kByte, {io::divide_up(elements, 2), 1}},
                                {"weight.absmax", form.double_quant ? torch::kByte : torch::kFloat, {blocks}},
                                {"weight.quant_map", torch::kFloat, {16}},
                                {state_suffix(form.type), torch::kByte, {kStateBytes}}};
  if (form.double_quant) {
    parts.push_back({"weight.nested_absmax", torch::kFloat, {io::divide_up(blocks, kNestedBlock)}});
    parts.push_back({"weight.nested_quant_map", torch::kFloat, {256}});
  }
  return parts;
}

StoredParts encode(const QuantScheme& form, const Tensor& matrix) {
  return form.kind == QuantScheme::Kind::kInt8 ? encode_int8(matrix) : encode_4bit(form, matrix);
}

}  // namespace bezel::quant
