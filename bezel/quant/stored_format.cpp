#include "bezel/quant/stored_format.h"

#include <algorithm>
#include <array>

#include "bezel/quant/dense_base.h"

namespace bezel::quant {
namespace {

using io::JsonView;

struct Method {
  std::string_view key, name;
};
// Values of quant_method in transformers that are not read, as people call them.
constexpr std::array<Method, 14> kOtherMethods{{{"awq", "AWQ"},
                                                {"gptq", "GPTQ"},
                                                {"auto-round", "AutoRound"},
                                                {"fp8", "FP8"},
                                                {"fbgemm_fp8", "FP8"},
                                                {"modelopt", "NVFP4 or FP8 of ModelOpt"},
                                                {"mxfp4", "MXFP4"},
                                                {"hqq", "HQQ"},
                                                {"torchao", "torchao"},
                                                {"quanto", "Quanto"},
                                                {"aqlm", "AQLM"},
                                                {"vptq", "VPTQ"},
                                                {"eetq", "EETQ"},
                                                {"higgs", "HIGGS"}}};

/// Refuses a part of quantization_config: what it should be, and which checkpoint to take instead.
class Refusal {
 public:
  explicit Refusal(const JsonView& config) : advice_("; " + take_dense_base(config)) {}

  [[noreturn]] void operator()(const JsonView& key, const std::string& expected) const { key.fail(expected + advice_); }

 private:
  std::string advice_;
};

std::string format_name(const std::string& format) {
  if (format.starts_with("nvfp4")) return " (NVFP4)";
  if (format.starts_with("mxfp4")) return " (MXFP4)";
  if (format.starts_with("mxfp8")) return " (MXFP8)";
  if (format == "float-quantized") return " (FP8)";
  return format == "mixed-precision" ? " (several forms in one checkpoint)" : "";
}

void read_weights(const JsonView& weights, const Refusal& refuse, StoredFormat& format) {
  const JsonView bits = weights.at("num_bits");
  if (weights.at("type").text() != "int") refuse(weights.at("type"), "'int': FP8 and FP4 are not read");
  if (const auto symmetric = weights.find("symmetric"); symmetric && !symmetric->boolean())
    refuse(*symmetric, "true: codes with a zero point are not read");
  // "group" (once true) permutes the columns of the stored matrix; "weight" only orders the calibration.
  if (const auto order = weights.find("actorder"))
    if (order->is_string() ? order->text() == "group" : order->value() == true)
      refuse(*order, "null or 'weight': columns in the order of their activations are not read");
  const auto value = static_cast<int>(bits.whole(1, 64));
  if (value != 4 && value != 8) refuse(bits, "4 or 8");
  if (format.num_bits != 0 && format.num_bits != value)
    refuse(bits, std::to_string(format.num_bits) + ", as in the group before: 4 and 8 bits mixed are not read");
  format.num_bits = value;
}

void read_compressed_tensors(const JsonView& section, const Refusal& refuse, StoredFormat& format) {
  const JsonView layout = section.at("format");
  const std::string name = layout.text();
  if (name != "pack-quantized" && name != "int-quantized" && name != "naive-quantized")
    refuse(layout, "pack-quantized or int-quantized; this form" + format_name(name) + " is not read");
  const auto groups = section.at("config_groups").members();
  if (groups.empty()) section.at("config_groups").fail("at least one group");
  for (const auto& [group, scheme] : groups) {
    if (const auto inputs = scheme.find("input_activations"))
      refuse(*inputs, "null: quantized activations are not read");
    read_weights(scheme.at("weights"), refuse, format);
  }
}

[[noreturn]] void refuse_method(const JsonView& method, const Refusal& refuse) {
  const std::string key = method.text();
  const auto* const known = std::ranges::find(kOtherMethods, key, &Method::key);
  refuse(method, "'bitsandbytes' or 'compressed-tensors'; " +
                     (known == kOtherMethods.end() ? "this form" : std::string(known->name)) + " is not read");
}

}  // namespace

StoredFormat read_stored_format(const JsonView& config) {
  StoredFormat format;
  const auto text = config.find("text_config");
  // MLX's key, with or without a copy of it as quantization_config.
  if (const auto mlx = config.find("quantization"); mlx && mlx->is_object() && mlx->find("bits"))
    Refusal{config}(*mlx, "no such key: codes of MLX are not read");
  auto section = config.find("quantization_config");
  if (!section && text && text->is_object()) section = text->find("quantization_config");
  if (!section) return format;
  const JsonView method = section->at("quant_method");
  const std::string name = method.text();
  if (name == "bitsandbytes" || name == "bezel") {  // "bezel": the same forms, for stacked experts too
    format.method = StoredFormat::Method::kBitsandbytes;
  } else if (name == "compressed-tensors") {
    format.method = StoredFormat::Method::kCompressedTensors;
    read_compressed_tensors(*section, Refusal(config), format);
  } else {
    refuse_method(method, Refusal(config));
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
