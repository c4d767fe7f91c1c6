#include "bezel/gemma4/quantize.h"

#include <set>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/io/tensor_io.h"
#include "bezel/nn/weight_site.h"
#include "bezel/quant/quant_scheme.h"

namespace bezel::gemma4 {
namespace {

// Modules by what happens to their matrices, in the canonical spelling.
struct Plan {
  std::set<std::string> quantized;  ///< "<module>.weight", or the name of a stack of experts
  std::set<std::string> dense;      ///< linear modules that stay as they are
};

Plan make_plan(const ModelConfig& config, const quant::StorageOptions& options, bool experts) {
  Plan plan;
  const Model model = meta_model(config, torch::kFloat);
  for (const nn::WeightSite& site : nn::weight_sites(*model)) {
    if (site.role() == nn::MatrixRole::kExperts && experts) plan.quantized.insert(site.name());
    if (site.layer == nullptr) continue;
    const std::string& name = site.module;
    const bool skipped = quant::is_skipped(name, options.skip) ||
                         quant::is_skipped(io::peft_module_name(name, config.text_only), options.skip);
    if (site.slot->quantizable && !skipped)
      plan.quantized.insert(name + ".weight");
    else
      plan.dense.insert(io::peft_module_name(name, config.text_only));
  }
  plan.dense.insert("lm_head");  // tied to the embeddings where the checkpoint has none
  return plan;
}

// A dense matrix to quantize.
io::CheckpointPart coded_part(const io::Checkpoint::Entry& entry, const std::string& stored,
                              const quant::QuantScheme& form) {
  constexpr std::string_view kWeight = "weight";
  const bool stack = !stored.ends_with(kWeight);  // of experts, whose tensor bears the module's name
  const std::string module = stack ? stored + "." : stored.substr(0, stored.size() - kWeight.size());
  io::CheckpointPart part;
  for (const quant::PartLayout& layout : quant::layout_of(form, entry.info->shape))
    part.tensors.push_back({module + layout.suffix, io::to_dtype(layout.dtype), layout.shape});
  part.write = [entry, module, form](io::TensorSink& sink) {
    for (const auto& [suffix, tensor] : quant::encode(form, io::map_tensor(entry.file, *entry.info)))
      io::put_tensor(sink, module + suffix, tensor);
    entry.file->evict(*entry.info);
  };
  return part;
}

// With quantized experts, no key that would let transformers take it for a checkpoint of bitsandbytes.
io::Json quantization_config(const Plan& plan, const quant::StorageOptions& options, bool experts,
                             const std::string& compute) {
  const bool four = options.storage == quant::Storage::kNf4;
  if (experts) return {{"quant_method", "bezel"}, {"bits", four ? 4 : 8}, {"skipped_modules", plan.dense}};
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

}  // namespace

QuantizeReport quantize_checkpoint(const std::string& folder, const std::string& output,
                                   const quant::StorageOptions& options, bool experts, std::size_t max_shard_bytes) {
  TORCH_CHECK(options.storage != quant::Storage::kDense, "quantize to what?");
  const ModelConfig config = read_model_config(folder);
  if (config.quantization.method != quant::StoredFormat::Method::kNone)
    throw Error(folder, ": config.json has a quantization_config: this checkpoint is quantized already");
  if (experts && config.text.num_experts == 0)
    throw Error(ErrorKind::kConfig, "--experts: ", folder, " has no experts");
  QuantizeReport report;
  report.warnings = load_model(folder, {}).warnings;  // complete, and of the shapes that its config says
  const Plan plan = make_plan(config, options, experts);
  const io::Checkpoint checkpoint = io::Checkpoint::open(folder);
  const quant::QuantScheme form{.kind = options.storage == quant::Storage::kInt8 ? quant::QuantScheme::Kind::kInt8
                                                                                 : quant::QuantScheme::Kind::kFourBit,
                                .double_quant = options.double_quant};
  io::NewCheckpoint made{
      .source = folder, .config = io::read_json_file(folder + "/config.json"), .max_shard_bytes = max_shard_bytes};
  for (const auto& [stored, entry] : checkpoint.entries()) {
    report.bytes_before += static_cast<std::int64_t>(entry.info->end_bytes - entry.info->begin_bytes);
    const bool quantized = plan.quantized.contains(checkpoint.canonical_name(stored));
    if (quantized) ++report.matrices;
    made.parts.push_back(quantized ? coded_part(entry, stored, form) : io::copied_part(entry, stored));
  }
  if (!config.text.tie_word_embeddings) io::untie_head(made.config);
  made.config["quantization_config"] = quantization_config(plan, options, experts, config.dtype);
  report.bytes_after = io::write_checkpoint(made, output).bytes;
  return report;
}

}  // namespace bezel::gemma4
