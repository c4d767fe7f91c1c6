#include "bezel/quant/stored_format.h"

#include "bezel/error.h"

namespace bezel::quant {
namespace {

using io::JsonView;

void read_compressed_tensors(const JsonView& section, StoredFormat& format) {
  const JsonView layout = section.at("format");
  const std::string name = layout.text();
  if (name != "pack-quantized" && name != "int-quantized" && name != "naive-quantized")
    layout.fail("pack-quantized or int-quantized");
  const auto groups = section.at("config_groups").members();
  if (groups.empty()) section.at("config_groups").fail("at least one group");
  for (const auto& [group, scheme] : groups) {
    if (const auto inputs = scheme.find("input_activations")) inputs->fail("null: quantised activations are not read");
    const JsonView weights = scheme.at("weights");
    const JsonView bits = weights.at("num_bits");
    if (weights.at("type").text() != "int") weights.at("type").fail("'int'");
    if (const auto symmetric = weights.find("symmetric"); symmetric && !symmetric->boolean())
      symmetric->fail("true: codes with a zero point are not read");
    const auto value = static_cast<int>(bits.whole(1, 64));
    if (value != 4 && value != 8) bits.fail("4 or 8");
    if (format.num_bits != 0 && format.num_bits != value) bits.fail("the same number of bits in every group");
    format.num_bits = value;
  }
}

}  // namespace

StoredFormat read_stored_format(const JsonView& config) {
  StoredFormat format;
  const auto section = config.find("quantization_config");
  if (!section) return format;
  const JsonView method = section->at("quant_method");
  const std::string name = method.text();
  if (name == "bitsandbytes" || name == "bezel") {  // "bezel": the same forms, for stacked experts too
    format.method = StoredFormat::Method::kBitsandbytes;
  } else if (name == "compressed-tensors") {
    format.method = StoredFormat::Method::kCompressedTensors;
    read_compressed_tensors(*section, format);
  } else {
    method.fail("'bitsandbytes' or 'compressed-tensors'; other quantised checkpoints are not read");
  }
  return format;
}

QuantState read_quant_state(std::string_view text, const std::string& source) {
  const io::Json json = io::parse_json(text, source, {.max_bytes = 1u << 16, .max_depth = 4});
  const JsonView view(json, source);
  constexpr std::int64_t kMaxBlock = 4096;
  QuantState state;
  const JsonView type = view.at("quant_type");
  state.quant_type = type.text();
  if (state.quant_type != "nf4" && state.quant_type != "fp4") type.fail("'nf4' or 'fp4'");
  state.block_size = view.at("blocksize").whole(2, kMaxBlock);
  const JsonView dtype = view.at("dtype");
  state.dtype = dtype.text();
  if (state.dtype != "float32" && state.dtype != "bfloat16" && state.dtype != "float16")
    dtype.fail("'float32', 'bfloat16' or 'float16'");
  for (const JsonView& size : view.at("shape").elements()) state.shape.push_back(size.whole(1));
  if (const auto nested = view.find("nested_blocksize")) {
    state.nested = true;
    state.nested_block_size = nested->whole(1, kMaxBlock);
    state.nested_offset = view.at("nested_offset").number();
  }
  return state;
}

}  // namespace bezel::quant
