#include "bezel/report/inspect_parts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <tuple>

#include "bezel/error.h"
#include "bezel/lora/targets.h"
#include "bezel/report/history.h"
#include "bezel/report/run_estimate.h"
#include "bezel/train/cost_model.h"

namespace bezel::report {
namespace {

using io::Json;

constexpr std::string_view kPerLayerTable = "embed_tokens_per_layer";  // read row by row

std::string_view last_part(std::string_view name) { return name.substr(name.rfind('.') + 1); }

bool is_bound(std::string_view name) {
  return std::ranges::find(kBoundNames, last_part(name)) != std::end(kBoundNames);
}

/// Value of a one-element floating tensor.
double scalar_value(const gemma4::SourceTensor& tensor) {
  const torch::Tensor value = tensor.map();
  if (value.numel() != 1 || !value.is_floating_point()) return std::numeric_limits<double>::quiet_NaN();
  return value.item<double>();
}

/// Tensors that are alike but for the number of their layer.
struct Group {
  std::set<std::int64_t> layers;
  std::int64_t count = 0, parameters = 0, bytes = 0;
};

// "layers.*.mlp.up_proj.weight": the name in its tower, without the number of the layer.
std::string row_name(const std::string& canonical) {
  const gemma4::Place place = gemma4::place_of(canonical);
  if (place.part == nullptr) return canonical;
  std::string name(place.name);
  if (place.layer >= 0) name = std::string(place.part->layer_list) + ".*." + name;
  if (place.part->kind != gemma4::PartKind::kProjector) return name;
  return std::string(place.part->last_name()) + "." + name;
}

// Of the tensors that training a decoder reads as a whole.
std::int64_t decoder_bytes(const StoredTensors& tensors) {
  std::int64_t bytes = 0;
  for (const auto& [canonical, found] : tensors)
    if (tower_name_of(canonical) == "language" && !gemma4::place_of(canonical).name.starts_with(kPerLayerTable))
      bytes += found.bytes();
  return bytes;
}

std::vector<lora::Tower> towers_of(const gemma4::Model& model) {
  std::set<lora::Tower> found;
  for (const gemma4::Part& part : model->parts()) found.insert(part.tower);
  if (model->config().text.num_experts > 0) found.insert(lora::Tower::kExperts);
  return {found.begin(), found.end()};
}

lora::Selection selection_in(gemma4::Model& model, lora::Tower tower, const lora::ModulePattern& pattern) {
  return lora::select_targets(*model, {.towers = {tower}, .target_modules = pattern}, {model->config().text_only});
}

}  // namespace

std::string tower_name_of(std::string_view canonical) {
  const gemma4::Part* part = gemma4::place_of(canonical).part;
  return std::string(lora::tower_name(part == nullptr ? lora::Tower::kLanguage : part->tower));
}

std::int64_t element_count(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

std::string ranges_text(const std::set<std::int64_t>& numbers) {
  std::string out;
  for (auto at = numbers.begin(); at != numbers.end();) {
    const std::int64_t first = *at;
    std::int64_t last = first;
    while (++at != numbers.end() && *at == last + 1) ++last;
    out += (out.empty() ? "" : ", ") + std::to_string(first) + (last > first ? "-" + std::to_string(last) : "");
  }
  return out;
}

Json tree_json(const StoredTensors& tensors) {
  using Key = std::tuple<std::string, std::string, std::string, std::vector<std::int64_t>>;  // tower, name, type, shape
  std::map<Key, Group> groups;
  for (const auto& [canonical, found] : tensors) {
    const std::string name = is_bound(canonical) ? "clip bounds" : row_name(canonical);
    const std::int64_t layer = gemma4::place_of(canonical).layer;
    Group& group = groups[{tower_name_of(canonical), name, found.type_name(), found.shape}];
    if (layer >= 0) group.layers.insert(layer);
    ++group.count;
    group.parameters += element_count(found.shape);
    group.bytes += found.bytes();
  }
  Json out = Json::object();
  for (const auto& [key, group] : groups) {
    const auto& [tower, name, type, shape] = key;
    out[tower].push_back({{"name", name},
                          {"layers", ranges_text(group.layers)},
                          {"count", group.count},
                          {"storage", type},
                          {"shape", shape},
                          {"parameters", group.parameters},
                          {"bytes", group.bytes}});
  }
  return out;
}

Json clip_json(const StoredTensors& tensors, std::size_t missing_bounds) {
  std::map<std::string, std::pair<double, double>> ranges;
  std::int64_t bounds = 0;
  std::int64_t infinite = 0;
  Json broken = Json::array();
  Json layers = Json::object();
  for (const auto& [canonical, found] : tensors) {
    if (!is_bound(canonical)) continue;
    ++bounds;
    const double value = scalar_value(found);
    const std::string layer = canonical.substr(0, canonical.rfind('.')), which(last_part(canonical));
    if (!layers.contains(layer))
      for (const std::string_view name : kBoundNames) layers[layer][std::string(name)] = nullptr;
    if (std::isnan(value)) broken.push_back(found.stored);
    if (std::isinf(value)) ++infinite;
    if (!std::isfinite(value)) continue;
    layers[layer][which] = value;
    const auto [place, fresh] = ranges.try_emplace(which, value, value);
    place->second.first = std::min(place->second.first, value);
    place->second.second = std::max(place->second.second, value);
  }
  Json out = {{"bounds", bounds}, {"infinite", infinite}, {"missing", missing_bounds}, {"broken", broken}};
  for (const auto& [name, range] : ranges) out[name] = {range.first, range.second};
  out["layers"] = layers;
  return out;
}

Json targets_json(gemma4::Model& model) {
  std::set<std::pair<lora::Tower, std::string>> names;
  for (const lora::Target& layer : lora::linear_layers(*model)) names.emplace(layer.tower, last_part(layer.name));
  Json out = Json::object();
  const auto add = [&](const std::string& name, lora::Tower tower, const lora::ModulePattern& pattern) {
    out[name][std::string(lora::tower_name(tower))] = selection_in(model, tower, pattern).targets.size();
  };
  for (const auto& [tower, name] : names) add(name, tower, lora::ModulePattern::from_names({name}));
  for (const lora::Tower tower : towers_of(model)) {
    add("default", tower, {});
    add("all-linear", tower, lora::ModulePattern::from_text("all-linear"));
  }
  // By target_parameters, whatever target_modules are.
  for (const lora::Target& stack : lora::expert_stacks(*model)) {
    Json& count = out["experts." + std::string(last_part(stack.name))]["experts"];
    count = (count.is_null() ? 0 : count.get<std::int64_t>()) + 1;
  }
  return out;
}

Json selected_json(gemma4::Model& model, const lora::ModulePattern& pattern) {
  // A name of a list need not be in every tower, as it would have to be for a run that adapts all of them.
  std::vector<lora::ModulePattern> parts{pattern};
  if (pattern.kind == lora::ModulePattern::Kind::kNames) {
    parts.clear();
    for (const std::string& name : pattern.names) parts.push_back(lora::ModulePattern::from_names({name}));
  }
  Json out = Json::object();
  for (const lora::ModulePattern& part : parts) {
    std::optional<Error> problem;
    bool found = false;
    for (const lora::Tower tower : towers_of(model)) {
      if (tower == lora::Tower::kExperts) continue;  // target_modules choose no layer
      Json& names = out[std::string(lora::tower_name(tower))];
      try {
        for (const lora::Target& target : selection_in(model, tower, part).targets)
          if (std::find(names.begin(), names.end(), Json(target.name)) == names.end()) names.push_back(target.name);
        found = true;
      } catch (const Error& error) {
        if (!problem) problem.emplace(error);
      }
    }
    if (!found) throw *problem;
  }
  for (auto at = out.begin(); at != out.end();) at = at->is_null() ? out.erase(at) : std::next(at);
  return out;
}

Json training_memory_json(gemma4::Model& model, const StoredTensors& tensors) {
  constexpr std::int64_t kTokens = 2048;
  const lora::LoraConfig lora;
  const std::int64_t parameters = lora::select_targets(*model, lora, {model->config().text_only, {}}).parameters();
  Json out{
      {"assumes", {{"lora_r", lora.rank}, {"lora_towers", {"language"}}, {"dtype", "bfloat16"}, {"tokens", kTokens}}}};
  const bool is_quantized = model->config().quantization.method != quant::StoredFormat::Method::kNone ||
                            std::ranges::any_of(tensors, [](const auto& named) { return named.second.is_packed(); });
  const auto add = [&](const char* name, quant::Storage storage) {
    train::RunShape run{.storage = {.storage = storage}, .largest = {.tokens = kTokens}};
    train::MemoryNeed need = train::memory_need(model, parameters, run);
    if (is_quantized) need.weights = decoder_bytes(tensors);
    out[name] = memory_json(need);
    run.recompute = true;
    out[name]["total_recomputed"] =
        need.total() - need.activations + train::memory_need(model, parameters, run).activations;
  };
  if (is_quantized) {
    add("as stored", quant::Storage::kDense);
    return out;
  }
  add("dense", quant::Storage::kDense);
  add("int8", quant::Storage::kInt8);
  add("nf4", quant::Storage::kNf4);
  return out;
}

}  // namespace bezel::report
