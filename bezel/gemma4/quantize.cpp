#include "bezel/gemma4/quantize.h"

#include <filesystem>
#include <set>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/io/atomic_write.h"
#include "bezel/io/tensor_io.h"
#include "bezel/quant/four_bit.h"
#include "bezel/quant/integer.h"

namespace bezel::gemma4 {
namespace {

using torch::Tensor;
namespace fs = std::filesystem;

// Modules by what happens to their matrices, in the canonical spelling.
struct Plan {
  std::set<std::string> quantized;  ///< "<module>.weight"
  std::set<std::string> dense;      ///< linear modules that stay as they are
};

Plan make_plan(const ModelConfig& config, const quant::StorageOptions& options) {
  Plan plan;
  const Model model = meta_model(config, torch::kFloat);
  for (const auto& item : model->named_modules()) {
    const auto* linear = dynamic_cast<const nn::LinearImpl*>(item.value().get());
    if (linear == nullptr) continue;
    const std::string& name = item.key();
    const bool skipped = quant::is_skipped(name, options.skip) ||
                         quant::is_skipped(io::peft_module_name(name, config.text_only), options.skip);
    if (linear->slots().front().quantizable && !skipped)
      plan.quantized.insert(name + ".weight");
    else
      plan.dense.insert(io::peft_module_name(name, config.text_only));
  }
  plan.dense.insert("lm_head");  // tied to the embeddings where the checkpoint has none
  return plan;
}

using Tensors = std::vector<std::pair<std::string, Tensor>>;

Tensor bytes_of(const std::string& text) {
  Tensor bytes = at::empty({static_cast<std::int64_t>(text.size())}, at::kByte);
  std::copy(text.begin(), text.end(), bytes.data_ptr<std::uint8_t>());
  return bytes;
}

std::string dtype_name(torch::ScalarType dtype) {
  if (dtype == torch::kBFloat16) return "bfloat16";
  return dtype == torch::kHalf ? "float16" : "float32";
}

// What bitsandbytes keeps for a 4-bit matrix. Reference: QuantState.as_dict(packed=True).
void add_nf4(const std::string& stored, const Tensor& matrix, bool double_quant, Tensors& out) {
  const quant::FourBit codes = quant::quantize_4bit(matrix, quant::FourBitType::kNf4, double_quant);
  io::Json state{{"quant_type", "nf4"},
                 {"blocksize", codes.block_size},
                 {"dtype", dtype_name(codes.value_dtype)},
                 {"shape", codes.shape}};
  out.emplace_back(stored, codes.packed.unsqueeze(1));
  out.emplace_back(stored + ".absmax", codes.scales);
  out.emplace_back(stored + ".quant_map", quant::four_bit_table(codes.type));
  if (codes.nested) {
    out.emplace_back(stored + ".nested_absmax", codes.nested->scales);
    out.emplace_back(stored + ".nested_quant_map", codes.nested->map);
    state["nested_blocksize"] = codes.nested->block_size;
    state["nested_dtype"] = "float32";
    state["nested_offset"] = static_cast<double>(codes.nested->offset);
  }
  out.emplace_back(stored + ".quant_state.bitsandbytes__nf4", bytes_of(state.dump()));
}

void add_int8(const std::string& stored, const Tensor& matrix, Tensors& out) {
  const quant::IntegerMatrix codes = quant::quantize_int8(matrix);
  const std::string module = stored.substr(0, stored.rfind('.'));
  out.emplace_back(stored, codes.codes);
  out.emplace_back(module + ".SCB", codes.scales.squeeze(1));
  out.emplace_back(module + ".weight_format", at::zeros({}, at::kByte));  // 0: row by row
}

io::Json quantization_config(const Plan& plan, const quant::StorageOptions& options, const std::string& compute) {
  const bool four = options.storage == quant::Storage::kNf4;
  io::Json config{{"quant_method", "bitsandbytes"}, {"load_in_4bit", four},
                  {"load_in_8bit", !four},          {"llm_int8_skip_modules", plan.dense},
                  {"llm_int8_threshold", 6.0},      {"llm_int8_has_fp16_weight", false}};
  if (four) {
    config["bnb_4bit_quant_type"] = "nf4";
    config["bnb_4bit_use_double_quant"] = options.double_quant;
    config["bnb_4bit_compute_dtype"] = compute.empty() ? "bfloat16" : compute;
    config["bnb_4bit_quant_storage"] = "uint8";
  }
  return config;
}

void copy_other_files(const fs::path& from, const fs::path& to) {
  for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    const bool is_weights = name.find(".safetensors") != std::string::npos || name.ends_with(".bin");
    if (entry.is_regular_file() && !is_weights && name != "config.json") fs::copy_file(entry.path(), to / name);
  }
}

}  // namespace

QuantizeReport quantize_checkpoint(const std::string& folder, const std::string& output,
                                   const quant::StorageOptions& options) {
  TORCH_CHECK(options.storage != quant::Storage::kDense, "quantise to what?");
  if (fs::exists(output)) throw Error(ErrorKind::kConfig, output, ": exists; --output takes a new folder");
  const ModelConfig config = read_model_config(folder);
  if (config.quantization.method != quant::StoredFormat::Method::kNone)
    throw Error(folder, ": config.json has a quantization_config: this checkpoint is quantised already");
  load_model(folder, {});  // complete, and of the shapes that its config says
  const Plan plan = make_plan(config, options);
  const io::Checkpoint checkpoint = io::Checkpoint::open(folder);
  QuantizeReport report;
  Tensors tensors;
  for (const auto& [stored, entry] : checkpoint.entries()) {
    const Tensor tensor = io::map_tensor(entry.file, *entry.info);
    report.bytes_before += static_cast<std::int64_t>(tensor.nbytes());
    if (!plan.quantized.contains(io::canonical_tensor_name(stored))) {
      tensors.emplace_back(stored, tensor);
      continue;
    }
    if (options.storage == quant::Storage::kNf4)
      add_nf4(stored, tensor, options.double_quant, tensors);
    else
      add_int8(stored, tensor, tensors);
    entry.file->release(*entry.info);
    ++report.matrices;
  }
  for (const auto& [name, tensor] : tensors) report.bytes_after += static_cast<std::int64_t>(tensor.nbytes());

  io::Json json = io::read_json_file(folder + "/config.json");
  json["quantization_config"] = quantization_config(plan, options, config.dtype);
  const fs::path half = output + ".tmp";
  fs::remove_all(half);  // of a run that was stopped
  std::error_code error;
  fs::create_directories(half, error);
  if (error) throw Error(ErrorKind::kIo, half.string(), ": cannot be made: ", error.message());
  copy_other_files(folder, half);
  io::save_safetensors((half / "model.safetensors").string(), tensors, {{"format", "pt"}});
  io::write_file_atomically((half / "config.json").string(), json.dump(2) + "\n");
  fs::rename(half, output, error);
  if (error) throw Error(ErrorKind::kIo, output, ": ", half.string(), " cannot be renamed to it: ", error.message());
  return report;
}

}  // namespace bezel::gemma4
