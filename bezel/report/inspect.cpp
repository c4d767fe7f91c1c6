#include "bezel/report/inspect.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "bezel/data/tokenizer.h"
#include "bezel/error.h"
#include "bezel/gemma4/model.h"
#include "bezel/gemma4/model_files.h"
#include "bezel/gemma4/source.h"
#include "bezel/io/checkpoint_folder.h"
#include "bezel/io/gguf_model.h"
#include "bezel/io/key_map.h"
#include "bezel/io/zarr_store.h"
#include "bezel/lora/file_names.h"
#include "bezel/lora/targets.h"
#include "bezel/nn/weight_site.h"
#include "bezel/report/inspect_orbax.h"
#include "bezel/report/inspect_parts.h"

namespace bezel::report {
namespace {

using io::Json;

/// What of a model's tensors fits what its config expects.
struct Comparison {
  std::vector<std::string> unused_kv;
  std::map<std::string, std::vector<std::string>> unused;  ///< others, by why
  std::vector<std::string> unexpected;
  std::vector<std::string> missing;
  std::vector<std::string> wrong_shape;
  std::size_t missing_bounds = 0;
};

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string out = "[";
  for (const std::int64_t size : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(size);
  return out + "]";
}

Comparison compare(const gemma4::Source& source, gemma4::Model& model) {
  Comparison result;
  std::set<std::string> expected;
  nn::for_each_module(*model, [&](const std::string& module_name, const nn::Module& module) {
    for (const nn::Slot& slot : module.slots()) {
      const std::string name = module_name + "." + slot.name;
      expected.insert(name);
      if (slot.kind == nn::SlotKind::kMatrix)  // a stack of experts bears the module's name
        if (const auto codes = source.names_of_codes(slot.name == "weight" ? module_name : name); !codes.empty()) {
          expected.insert(codes.begin(), codes.end());
          continue;
        }
      const auto found = source.all().find(name);
      if (found == source.all().end()) {
        if (slot.kind == nn::SlotKind::kClipBound)
          ++result.missing_bounds;
        else
          result.missing.push_back(name);
      } else if (found->second.shape != slot.shape) {
        result.wrong_shape.push_back(found->second.stored + ": " + shape_text(found->second.shape) + ", " +
                                     source.config_name() + " makes it " + shape_text(slot.shape));
      }
    }
  });
  for (const auto& [name, found] : source.all()) {
    if (expected.count(name) > 0) continue;
    const std::string_view why = gemma4::why_unused(name, model->config());
    if (gemma4::is_unused_kv(name, model->config().text))
      result.unused_kv.push_back(found.stored);
    else if (!why.empty())
      result.unused[std::string(why)].push_back(found.stored);
    else
      result.unexpected.push_back(found.stored);
  }
  return result;
}

Json storage_json(const gemma4::Source& source) {
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> by_type;
  for (const auto& [name, tensor] : source.all()) {
    auto& [tensors, bytes] = by_type[tensor.type_name()];
    ++tensors;
    bytes += tensor.bytes();
  }
  Json out = Json::object();
  for (const auto& [type, sums] : by_type) out[type] = {{"tensors", sums.first}, {"bytes", sums.second}};
  return out;
}

/// out[name], an object from the first time on.
Json& entry(Json& out, const std::string& name) {
  Json& value = out[name];
  if (value.is_null()) value = Json::object();
  return value;
}

Json towers_json(const gemma4::Source& source, gemma4::Model& model) {
  Json out = Json::object();
  for (const gemma4::Part& part : model->parts())
    if (part.kind != gemma4::PartKind::kProjector)
      out[std::string(part.label)] = {{"layers", part.layers.size()}, {"hidden_size", part.hidden_size}};
  for (const auto& [canonical, found] : source.all()) {
    Json& tower = entry(out, tower_name_of(canonical));
    tower["tensors"] = tower.value("tensors", 0) + 1;
    tower["parameters"] = tower.value("parameters", std::int64_t{0}) + element_count(found.shape);
    tower["bytes"] = tower.value("bytes", std::int64_t{0}) + found.bytes();
  }
  for (const lora::Target& layer : lora::linear_layers(*model)) {
    Json& tower = entry(out, std::string(lora::tower_name(layer.tower)));
    tower["linear_layers"] = tower.value("linear_layers", 0) + 1;
    tower["clipped_layers"] = tower.value("clipped_layers", 0) + (layer.layer->clip ? 1 : 0);
  }
  return out;
}

Json text_json(const gemma4::TextConfig& text) {
  const auto is_full = [](const gemma4::TextLayerConfig& layer) { return layer.type == gemma4::LayerType::kFull; };
  return {{"vocab_size", text.vocab_size},
          {"attention_heads", text.num_heads},
          {"full_attention_layers", std::ranges::count_if(text.layers, is_full)},
          {"sliding_window", text.sliding_window},
          {"kv_sharing_layers", text.num_kv_shared_layers},
          {"per_layer_width", text.hidden_size_per_layer_input},
          {"experts", text.num_experts}};
}

bool has_tokenizer(const std::string& model) {
  std::error_code error;
  return io::is_gguf_path(model) || std::filesystem::exists(std::filesystem::path(model) / "tokenizer.json", error);
}

// Tokens that no embedding can be looked up for.
void add_tokens_without_row(const gemma4::ModelConfig& config, const std::string& model,
                            std::vector<std::string>& warnings) {
  constexpr std::size_t kShown = 3;
  const data::Tokenizer tokenizer = data::Tokenizer::of_model(model);
  std::vector<std::int64_t> without;
  for (std::int64_t id = 0; id < tokenizer.vocab_size(); ++id)
    if (!config.missing_row(id).empty() && !tokenizer.word(id).empty()) without.push_back(id);
  if (without.empty()) return;
  std::string shown;
  for (std::size_t i = 0; i < std::min(kShown, without.size()); ++i)
    shown += (i > 0 ? ", '" : "'") + tokenizer.word(without[i]) + "' (" + std::to_string(without[i]) + ")";
  warnings.push_back(model + ": " + std::to_string(without.size()) + " tokens of the tokenizer have no embedding, " +
                     shown + (without.size() > kShown ? ", …" : "") +
                     "; texts with them are refused: " + config.missing_row(without.front()));
}

// Whether any layer of a tower has a finite bound.
bool has_bound(const std::string& tower, const Json& clip) {
  for (const auto& [layer, bounds] : clip["layers"].items())
    if (tower_name_of(layer) == tower && std::ranges::any_of(bounds, [](const Json& b) { return !b.is_null(); }))
      return true;
  return false;
}

// What Bezel says when it loads the checkpoint, and tokens that have no embedding.
std::vector<std::string> checkpoint_warnings(const gemma4::ModelConfig& config, const std::string& model,
                                             const Json& towers, const Json& clip) {
  std::vector<std::string> warnings = config.warnings;
  for (const auto& [tower, facts] : towers.items())
    if (const auto layers = facts.value("clipped_layers", std::int64_t{0}); layers > 0 && !has_bound(tower, clip))
      warnings.push_back(gemma4::lost_bounds_warning(model, tower, layers));
  if (!has_tokenizer(model)) return warnings;
  try {
    add_tokens_without_row(config, model, warnings);
  } catch (const Error& error) {  // what inspect is asked for does not need it
    warnings.push_back(error.what());
  }
  return warnings;
}

/// How many files there are, and elements in them.
std::pair<std::size_t, std::int64_t> files_and_parameters(const gemma4::Source& source) {
  std::set<std::string> files;
  std::int64_t parameters = 0;
  for (const auto& [name, tensor] : source.all()) {
    files.insert(tensor.path());
    parameters += element_count(tensor.shape);
  }
  return {files.size(), parameters};
}

}  // namespace

Json inspect_checkpoint(const std::string& folder, const std::string& mmproj) {
  const gemma4::ModelConfig config = gemma4::read_model_config(gemma4::ModelFiles{folder, mmproj});
  gemma4::Source source(folder, mmproj);
  if (config.text.tie_word_embeddings) source.tie_embeddings_to_head();
  const auto [files, parameters] = files_and_parameters(source);
  const io::KeyLayout layout = io::detect_layout(source.stored_names());
  // A model without weights: its module tree is what the checkpoint should hold.
  gemma4::Model model(config, torch::kBFloat16);
  const Comparison comparison = compare(source, model);
  Json out = {{"kind", "checkpoint"},
              {"path", folder},
              {"architecture", config.architecture()},
              {"layout", source.is_gguf()                 ? "GGUF"
                         : layout == io::KeyLayout::kFlat ? "flat"
                                                          : "nested"},
              {"files", files},
              {"tensors", source.all().size()},
              {"parameters", parameters},
              {"storage", storage_json(source)},
              {"towers", towers_json(source, model)},
              {"text", text_json(config.text)},
              {"clip", clip_json(source.all(), comparison.missing_bounds)},
              {"tree", tree_json(source.all())},
              {"target_modules", targets_json(model)},
              {"training_memory", training_memory_json(model, source.all())}};
  out["unused_kv_tensors"] = comparison.unused_kv;
  out["unused_tensors"] = comparison.unused;
  out["warnings"] = checkpoint_warnings(config, folder, out["towers"], out["clip"]);
  if (const std::string foreign = source.foreign_name(); !foreign.empty()) out["problem"] = foreign;
  out["unexpected_tensors"] = comparison.unexpected;
  out["missing_tensors"] = comparison.missing;
  out["wrong_shapes"] = comparison.wrong_shape;
  out["loads"] = comparison.unexpected.empty() && comparison.missing.empty() && comparison.wrong_shape.empty() &&
                 out["clip"]["broken"].empty() && !out.contains("problem");
  return out;
}

Json inspect_targets(const std::string& folder, const lora::ModulePattern& target_modules, const std::string& mmproj) {
  gemma4::Model model(gemma4::read_model_config(gemma4::ModelFiles{folder, mmproj}), torch::kBFloat16);
  return selected_json(model, target_modules);
}

Json inspect(const std::string& folder, const std::string& mmproj, const std::string& config) {
  namespace fs = std::filesystem;
  std::error_code error;
  const bool is_gguf = io::is_gguf_path(folder);
  if (!is_gguf) io::check_checkpoint_folder(folder);
  const bool is_adapter = !is_gguf && fs::exists(fs::path(folder) / lora::kAdapterConfig, error);
  const bool is_orbax = !is_gguf && !is_adapter && io::find_orbax_folder(folder);
  if (!config.empty() && !is_orbax)
    throw Error(ErrorKind::kConfig, "--config ", config, ": only for a checkpoint of Orbax (_METADATA, ",
                "manifest.ocdbt), and ", folder, " is none");
  if (!mmproj.empty() && (is_adapter || is_orbax))
    throw Error(ErrorKind::kConfig, folder, is_orbax ? ": a checkpoint of Orbax" : ": an adapter",
                "; --mmproj is for a GGUF file");
  if (is_orbax) return inspect_orbax(folder, config);
  return is_adapter ? inspect_adapter(folder) : inspect_checkpoint(folder, mmproj);
}

}  // namespace bezel::report
