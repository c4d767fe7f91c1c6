#include "bezel/lora/convert.h"

#include <filesystem>
#include <optional>
#include <set>

#include "bezel/error.h"
#include "bezel/io/new_folder.h"
#include "bezel/lora/config.h"
#include "bezel/lora/expert_keys.h"
#include "bezel/lora/file_names.h"
#include "bezel/lora/match.h"

namespace bezel::lora {
namespace {

constexpr const char* kWhole = "weight";

std::vector<std::string> stored_names(const io::Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const auto& [stored, entry] : checkpoint.entries()) names.push_back(stored);
  return names;
}

// Decoder layers right under `model.`: the adapter of a text-only model.
bool is_text_only(const io::AdapterKey& key) {
  return !io::is_clippable_module(key.module) && key.module != key.stored;
}

// A key of LoRA, of trained rows, or (part "weight") of a whole matrix that is saved beside them.
std::optional<io::AdapterKey> key_of(const std::string& name) {
  if (auto key = io::parse_adapter_key(name)) return key;
  const auto module = io::saved_module_of(name);
  if (!module) return std::nullopt;
  // In a text-only model's adapter the module has another name than the canonical one.
  const bool text_only = name.find(".language_model.") == std::string::npos && *module != "lm_head";
  return io::AdapterKey{*module, kWhole, io::peft_module_name(*module, text_only)};
}

// Whether a key is spelled for the text model.
bool wants_text_name(const io::AdapterKey& key, AdapterNames names, const std::string& folder) {
  if (names == AdapterNames::kAsStored) return is_text_only(key);
  if (names == AdapterNames::kMultimodal) return false;
  if (!key.module.starts_with("model.language_model.") && key.module != "lm_head")
    throw Error(folder, ": adapts '", key.stored,
                "', which a text-only model does not have; train lora_towers: ", "[language] for one, or merge");
  return true;
}

// The class in auto_mapping follows the names.
void set_class(io::Json& json, AdapterNames names, const std::string& source) {
  if (names == AdapterNames::kAsStored || !json.contains("auto_mapping") || !json["auto_mapping"].is_object()) return;
  io::Json& mapping = json["auto_mapping"];
  const std::string was = mapping.contains("base_model_class") && mapping["base_model_class"].is_string()
                              ? mapping["base_model_class"].get<std::string>()
                              : "";
  if (was.starts_with("Gemma3"))
    throw Error(source, ": is an adapter of Gemma 3, whose text models have one spelling; leave --names out");
  for (const std::string family : {"Gemma4", "Gemma4Unified"})
    if (was == family + "ForCausalLM" || was == family + "ForConditionalGeneration")
      mapping["base_model_class"] =
          family + (names == AdapterNames::kText ? "ForCausalLM" : "ForConditionalGeneration");
}

// adapter_config.json for renamed layers.
class NewConfig {
 public:
  explicit NewConfig(const std::string& path)
      : json_(io::read_json_file(path)),
        lora_(parse_adapter_config(json_, path, {.saved_modules = true}).lora),
        old_ranks_(lora_.rank_pattern, "rank_pattern"),
        alphas_(lora_.alpha_pattern, "alpha_pattern") {}

  void add(const io::AdapterKey& key, const std::string& name, std::int64_t rank) {
    targets_.push_back(name);
    std::vector<std::string> names = spellings(key.module, is_text_only(key));
    names.push_back(key.stored);  // the one that the patterns are about
    set_patterns(name, rank, names);
  }

  // A stack of experts, whose tensors do not say its rank. `source` is for errors.
  void add_experts(const io::AdapterKey& key, bool text_only, const std::string& source) {
    const auto matrix = expert_matrix_of(key.module, lora_);
    if (!matrix)
      throw Error(source, ": adapts experts under '", key.stored,
                  "', but target_parameters does not say of which matrix they are");
    const std::string name = io::peft_module_name(*matrix, text_only);
    parameters_.push_back(name);
    const std::vector<std::string> names = spellings(*matrix, is_text_only(key));
    set_patterns(name, old_ranks_.find(names, lora_.rank), names);
  }

  /// Tables that are trained beside LoRA; names that are not whole hold in either spelling.
  void spell_tables(AdapterNames names) {
    if (names == AdapterNames::kAsStored) return;
    const auto respelt = [&](const std::string& name) {
      return name.find('.') == std::string::npos
                 ? name
                 : io::peft_module_name(io::canonical_module_name(name), names == AdapterNames::kText);
    };
    if (io::Json& saved = json_["modules_to_save"]; saved.is_array())
      for (io::Json& name : saved) name = respelt(name.get<std::string>());
    io::Json& rows = json_["trainable_token_indices"];
    if (!rows.is_object()) return;
    io::Json made = io::Json::object();
    for (const auto& [name, ids] : rows.items()) made[respelt(name)] = ids;
    rows = made;
  }

  io::Json json() const {
    io::Json json = json_;
    json["target_modules"] = targets_;
    if (!parameters_.empty()) json["target_parameters"] = parameters_;
    json["exclude_modules"] = nullptr;
    for (const char* key : {"layers_to_transform", "layers_pattern"})  // the full names say it
      if (json.contains(key)) json[key] = nullptr;
    json["rank_pattern"] = ranks_;
    json["alpha_pattern"] = new_alphas_;
    return json;
  }

 private:
  void set_patterns(const std::string& name, std::int64_t rank, const std::vector<std::string>& old_names) {
    if (rank != lora_.rank) ranks_[name] = rank;
    const double alpha = alphas_.find(old_names, lora_.alpha);
    if (alpha != lora_.alpha) new_alphas_[name] = alpha;
  }

  io::Json json_;
  LoraConfig lora_;
  PatternTable<std::int64_t> old_ranks_;
  PatternTable<double> alphas_;
  std::vector<std::string> targets_, parameters_;
  io::Json ranks_ = io::Json::object();
  io::Json new_alphas_ = io::Json::object();
};

}  // namespace

Conversion convert_checkpoint(const std::string& folder, io::KeyLayout layout, const std::string& output,
                              std::size_t max_shard_bytes) {
  const io::Checkpoint checkpoint = io::Checkpoint::open(folder);
  io::detect_layout(stored_names(checkpoint));  // each tensor in one spelling only
  io::NewCheckpoint made{
      .source = folder, .config = io::read_json_file(folder + "/config.json"), .max_shard_bytes = max_shard_bytes};
  Conversion conversion;
  for (const auto& [stored, entry] : checkpoint.entries()) {
    const std::string name = io::respelt_tensor_name(stored, layout);
    conversion.renamed += name != stored;
    ++conversion.tensors;
    made.parts.push_back(io::copied_part(entry, name));
  }
  io::write_checkpoint(made, output);
  return conversion;
}

Conversion convert_adapter(const std::string& folder, io::KeyLayout layout, const std::string& output,
                           AdapterNames wanted) {
  const std::filesystem::path from(folder);
  NewConfig config((from / kAdapterConfig).string());
  const auto file = io::SafetensorsFile::open((from / kAdapterWeights).string());
  std::vector<io::TensorBytes> tensors;
  std::set<std::string> names;
  Conversion conversion;
  for (const io::TensorInfo& info : file->tensors()) {
    const auto key = key_of(info.name);
    if (!key) throw Error(file->path(), ": tensor '", info.name, "' is no tensor of a LoRA adapter");
    const bool text = wants_text_name(*key, wanted, folder);
    const std::string name = key->part == kWhole ? io::saved_module_key(key->module, text)
                                                 : io::adapter_key(key->module, key->part, text, layout);
    if (!names.insert(name).second)
      throw Error(file->path(), ": tensor '", info.name, "' is there in both spellings; keep one");
    if (key->part == "lora_A" && is_expert_key_module(key->module))
      config.add_experts(*key, text, folder);
    else if ((key->part == "lora_A" || key->part == "lora_embedding_A") && info.shape.size() == 2)
      config.add(*key, io::peft_module_name(key->module, text, layout), info.shape[0]);
    conversion.renamed += name != info.name;
    ++conversion.tensors;
    tensors.push_back({name, info.dtype, info.shape, file->data(info), info.end_bytes - info.begin_bytes});
  }
  config.spell_tables(wanted);
  io::Json json = config.json();
  set_class(json, wanted, folder);
  io::NewFolder made(output);
  made.copy_files(folder, [](const std::string& name) { return name != kAdapterWeights && name != kAdapterConfig; });
  io::write_safetensors((made.path() / kAdapterWeights).string(), tensors, file->metadata());
  io::write_file_atomically((made.path() / kAdapterConfig).string(), json.dump(2) + "\n");
  made.commit();
  return conversion;
}

}  // namespace bezel::lora
