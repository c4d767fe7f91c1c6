#include "bezel/gemma4/gguf_export.h"

#include <algorithm>
#include <filesystem>

#include <ATen/ATen.h>

#include "bezel/data/gguf_vocabulary.h"
#include "bezel/error.h"
#include "bezel/gemma4/gguf_keys.h"
#include "bezel/gemma4/gguf_parts.h"
#include "bezel/gemma4/load.h"
#include "bezel/io/key_map.h"
#include "bezel/io/regular_file.h"
#include "bezel/io/tensor_io.h"

namespace bezel::gemma4 {
namespace {

namespace fs = std::filesystem;
using quant::GgufMix;
using quant::GgufPart;

constexpr const char* kFileType = "general.file_type";
constexpr std::uint32_t kQuantizationVersion = 2;  // of ggml's block types

/// Plans the language model of a checkpoint folder.
class CheckpointExport {
 public:
  CheckpointExport(const std::string& folder, GgufExport& made)
      : config_(read_model_config(folder)), source_(folder), made_(made) {}

  void run(std::optional<GgufMix> mix) {
    set_keys();
    made_.parts = checkpoint_parts(source_, config_, io::gguf_tensor_name, made_.left_out);
    if (config_.family != Family::kGemma3) add_rope_factors();
    const GgufMix chosen = mix.value_or(usual_mix(made_.parts));
    made_.keys.set(kFileType, static_cast<std::uint32_t>(chosen));
    choose_types(chosen, config_.text.num_layers, config_.text.num_experts, made_.parts);
  }

 private:
  void set_keys() {
    made_.keys.set("general.architecture", gguf_architecture(config_.family));
    made_.keys.set("general.type", "model");
    made_.keys.set("general.name", fs::weakly_canonical(source_.path()).filename().string());
    set_sampling();
    set_gguf_config(config_, source_.path(), made_.keys);
    made_.keys.set("general.quantization_version", kQuantizationVersion);
    data::set_gguf_tokenizer(source_.path(), config_.family, config_.text.vocab_size, made_.keys);
  }

  // How the model's makers sample from it.
  void set_sampling() {
    const std::string path = (fs::path(source_.path()) / "generation_config.json").string();
    if (!io::is_there(path)) return;
    const io::Json json = io::read_json_file(path);
    const io::JsonView config(json, path);
    if (const auto k = config.find("top_k"))
      made_.keys.set("general.sampling.top_k", static_cast<std::int32_t>(k->whole(0, 1 << 30)));
    for (const auto& [name, key] : {std::pair{"top_p", "top_p"}, {"min_p", "min_p"}, {"temperature", "temp"}})
      if (const auto value = config.find(name))
        made_.keys.set(std::string("general.sampling.") + key, static_cast<float>(value->number()));
  }

  void add_rope_factors() {
    const std::vector<float> factors = gguf_rope_factors(config_.text);
    const auto tensor = at::tensor(factors, torch::kFloat);
    made_.parts.push_back(
        {.canonical = "", .name = "rope_freqs.weight", .shape = {tensor.size(0)}, .rows = quant::rows_of(tensor)});
  }

  ModelConfig config_;
  Source source_;
  GgufExport& made_;
};

// Keys of one file among several, and of how a file is laid out.
bool belongs_to_file(std::string_view key) { return key.starts_with("split.") || key == "general.alignment"; }

GgufPart part_of(const io::GgufModel::Entry& entry) {
  const io::GgufTensor& info = *entry.info;
  const torch::Tensor tensor = io::map_tensor(entry.file, info);
  return {.canonical = io::canonical_gguf_name(info.name).value_or(""),
          .name = info.name,
          .shape = info.shape,
          .type = info.type,
          .plain = info.type,
          .rows = io::is_packed(info.type) ? quant::rows_of(tensor, info.type) : quant::rows_of(tensor),
          .as_stored = entry,
          .evict = [entry] { entry.file->evict(*entry.info); }};
}

void plan_from_gguf(const std::string& path, std::optional<GgufMix> mix, GgufExport& made) {
  const io::GgufModel model = io::GgufModel::open(path);
  for (const auto& [key, value] : model.metadata().metadata())
    if (!belongs_to_file(key)) made.keys.copy(value);
  for (const auto& [name, entry] : model.entries())
    if (entry.file.get() != model.towers()) made.parts.push_back(part_of(entry));
  std::ranges::sort(made.parts, quant::gguf_name_before, &GgufPart::name);
  if (!mix) return;
  const TextConfig text = read_model_config(path).text;
  made.keys.set(kFileType, static_cast<std::uint32_t>(*mix));
  made.keys.set("general.quantization_version", kQuantizationVersion);
  choose_types(*mix, text.num_layers, text.num_experts, made.parts);
}

}  // namespace

GgufExport plan_gguf(const ModelFiles& files, std::optional<GgufMix> mix) {
  GgufExport made;
  made.warnings = load_model(files, {}).warnings;  // complete, and of the shapes that its config says
  if (io::is_gguf_path(files.model))
    plan_from_gguf(files.model, mix, made);
  else
    CheckpointExport(files.model, made).run(mix);
  return made;
}

quant::GgufReport write_gguf(const GgufExport& made, const std::string& output) {
  quant::GgufReport report;
  std::vector<io::NewGgufTensor> tensors;
  for (const GgufPart& part : made.parts) tensors.push_back(quant::new_tensor(part, report));
  io::write_gguf(output, made.keys, tensors);
  return report;
}

}  // namespace bezel::gemma4
