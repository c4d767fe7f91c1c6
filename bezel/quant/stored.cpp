#include "bezel/quant/stored.h"

#include <algorithm>
#include <array>
#include <sstream>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/quant/four_bit.h"
#include "bezel/quant/integer.h"

namespace bezel::quant {
namespace {

using torch::Tensor;

constexpr std::string_view kQuantState = "weight.quant_state.bitsandbytes__";
// weight_g_idx: the order in which columns were quantized, which changes nothing unless `actorder` is "group".
constexpr std::array<std::string_view, 12> kParts = {"weight",
                                                     "weight.absmax",
                                                     "weight.quant_map",
                                                     "weight.nested_absmax",
                                                     "weight.nested_quant_map",
                                                     "SCB",
                                                     "weight_format",
                                                     "weight_packed",
                                                     "weight_scale",
                                                     "weight_shape",
                                                     "weight_zero_point",
                                                     "weight_g_idx"};

const Tensor& part(const StoredParts& parts, const std::string& suffix, torch::ScalarType dtype,
                   const std::string& name) {
  const auto found = parts.find(suffix);
  if (found == parts.end())
    throw Error(name, ": the quantized matrix has no '", suffix, "' beside it; the checkpoint is not complete");
  if (found->second.scalar_type() != dtype)
    throw Error(name, ": '", suffix, "' is of type ", c10::toString(found->second.scalar_type()), ", expected ",
                c10::toString(dtype));
  return found->second;
}

std::string text_of(const std::vector<std::int64_t>& shape) {
  std::ostringstream out;
  out << at::IntArrayRef(shape);
  return out.str();
}

// The codes as bytes, whatever type bnb_4bit_quant_storage stored them as: FSDP requires the type of the other weights.
Tensor code_bytes(const StoredParts& parts, const std::string& name) {
  const auto found = parts.find("weight");
  if (found == parts.end()) throw Error(name, ": the quantized matrix has no 'weight' beside its quant_state");
  const auto type = found->second.scalar_type();
  if (type != torch::kByte && type != torch::kChar && !c10::isFloatingType(type))
    throw Error(name, ": 'weight' is of type ", c10::toString(type),
                ", expected U8, I8, BF16, F16 or F32 for 4-bit codes");
  return found->second.contiguous().flatten().view(torch::kByte);
}

std::shared_ptr<const Weight> four_bit(const StoredParts& parts, const std::vector<std::int64_t>& shape,
                                       const std::string& name) {
  const auto found = std::ranges::find_if(parts, [](const auto& item) { return item.first.starts_with(kQuantState); });
  if (found == parts.end()) throw Error(name, ": a matrix of type U8 without 'weight.quant_state.bitsandbytes__…'");
  const QuantState state = parse_quant_state(part(parts, found->first, torch::kByte, name), name);
  if (found->first.substr(kQuantState.size()) != state.quant_type)
    throw Error(name, ": stored as '", found->first, "', but its quant_type is '", state.quant_type, "'");
  if (state.shape != shape)
    throw Error(name, ": quant_state says shape ", text_of(state.shape), ", config.json makes it ", text_of(shape));
  FourBit matrix;
  matrix.type = state.quant_type == "nf4" ? FourBitType::kNf4 : FourBitType::kFp4;
  matrix.shape = shape;
  matrix.block_size = state.block_size;
  matrix.value_dtype = dtype_named(state.dtype);
  if (const auto map = parts.find("weight.quant_map"); map != parts.end()) {
    const Tensor table = four_bit_table(matrix.type);
    if (map->second.numel() != table.numel() ||
        !at::allclose(map->second.to(torch::kFloat).flatten(), table, 1e-5, 1e-6))
      throw Error(name, ": 'weight.quant_map' does not hold the values of ", state.quant_type,
                  "; other maps are not read");
  }
  matrix.packed = code_bytes(parts, name);
  matrix.scales = part(parts, "weight.absmax", state.nested ? torch::kByte : torch::kFloat, name).flatten();
  if (state.nested)
    matrix.nested = NestedScales{part(parts, "weight.nested_quant_map", torch::kFloat, name).flatten(),
                                 part(parts, "weight.nested_absmax", torch::kFloat, name).flatten(),
                                 state.nested_block_size, static_cast<float>(state.nested_offset)};
  return four_bit_weight(std::move(matrix), name);
}

std::shared_ptr<const Weight> bitsandbytes_int8(const StoredParts& parts, const std::vector<std::int64_t>& shape,
                                                const std::string& name) {
  const Tensor& codes = part(parts, "weight", torch::kChar, name);
  const Tensor& absmax = part(parts, "SCB", torch::kFloat, name);
  return integer_weight({.shape = shape,
                         .group_size = shape.back(),
                         .codes = codes.dim() == 3 ? codes.flatten(0, 1) : codes,
                         .scales = absmax.flatten().unsqueeze(1),
                         .factor = 7.874015718698502e-3f},
                        name);
}

std::shared_ptr<const Weight> compressed(const StoredParts& parts, const std::vector<std::int64_t>& shape, int num_bits,
                                         const std::string& name) {
  if (parts.contains("weight_zero_point"))
    throw Error(name, ": 'weight_zero_point' is there; codes with a zero point are not read");
  const auto scale = parts.find("weight_scale");
  if (scale == parts.end()) throw Error(name, ": the quantized matrix has no 'weight_scale' beside it");
  if (!scale->second.is_floating_point()) throw Error(name, ": 'weight_scale' is no floating tensor");
  IntegerMatrix matrix;
  matrix.shape = shape;
  matrix.scales = scale->second.dim() == 1 ? scale->second.unsqueeze(1) : scale->second;
  matrix.value_dtype = matrix.scales.scalar_type();
  matrix.group_size = matrix.scales.dim() == 2 && matrix.scales.size(1) > 0 ? shape.back() / matrix.scales.size(1) : 0;
  if (const auto packed = parts.find("weight_packed"); packed != parts.end()) {
    const Tensor& words = part(parts, "weight_packed", torch::kInt, name);
    if (const auto stored = parts.find("weight_shape"); stored != parts.end()) {
      const Tensor sizes = stored->second.to(torch::kLong).flatten();
      const std::vector<std::int64_t> said(sizes.data_ptr<std::int64_t>(),
                                           sizes.data_ptr<std::int64_t>() + sizes.numel());
      if (said != shape)
        throw Error(name, ": weight_shape says ", text_of(said), ", config.json makes it ", text_of(shape));
    }
    // Eight or four codes in a word, the first one in its lowest bits: on a little-endian machine the same as bytes.
    matrix.bits = num_bits;
    matrix.zero = std::int64_t{1} << (num_bits - 1);
    matrix.codes = words.contiguous().view(torch::kByte);
    // The last word of a row may be filled up.
    const std::int64_t row_bytes = shape.back() * num_bits / 8;
    if (matrix.codes.dim() == 2 && matrix.codes.size(1) > row_bytes && matrix.codes.size(1) - row_bytes < 4)
      matrix.codes = matrix.codes.narrow(1, 0, row_bytes);
  } else {
    matrix.codes = part(parts, "weight", torch::kChar, name);
  }
  return integer_weight(std::move(matrix), name);
}

}  // namespace

torch::ScalarType dtype_named(const std::string& name) {
  if (name == "bfloat16") return torch::kBFloat16;
  return name == "float16" ? torch::kHalf : torch::kFloat;
}

bool is_part_of_matrix(std::string_view suffix) {
  return suffix.starts_with(kQuantState) || std::ranges::find(kParts, suffix) != kParts.end();
}

bool marks_codes(std::string_view suffix) { return suffix.starts_with(kQuantState) || suffix == "weight_packed"; }

bool is_quantized(const StoredParts& parts) {
  if (std::ranges::any_of(parts, [](const auto& part) { return marks_codes(part.first); })) return true;
  const auto weight = parts.find("weight");
  return weight != parts.end() && !weight->second.is_floating_point();
}

QuantState parse_quant_state(const Tensor& bytes, const std::string& name) {
  const std::string_view json(reinterpret_cast<const char*>(bytes.const_data_ptr<std::uint8_t>()),
                              static_cast<std::size_t>(bytes.numel()));
  return read_quant_state(json, name + ".quant_state");
}

std::shared_ptr<const Weight> stored_weight(const StoredParts& parts, const std::vector<std::int64_t>& shape,
                                            const StoredFormat& format, const std::string& name) {
  if (format.method == StoredFormat::Method::kCompressedTensors) return compressed(parts, shape, format.num_bits, name);
  const auto weight = parts.find("weight");
  if (weight == parts.end()) throw Error(name, ": packed codes, but config.json has no quantization_config for them");
  const bool has_state = std::ranges::any_of(parts, [](const auto& part) { return marks_codes(part.first); });
  if (has_state || weight->second.scalar_type() == torch::kByte) return four_bit(parts, shape, name);
  if (weight->second.scalar_type() == torch::kChar) return bitsandbytes_int8(parts, shape, name);
  throw Error(name, ": got dtype ", c10::toString(weight->second.scalar_type()),
              ", expected a floating matrix, U8 (4 bits) or I8 codes");
}

}  // namespace bezel::quant
