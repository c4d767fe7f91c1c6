#include "bezel/report/inspect_orbax.h"

#include <charconv>
#include <filesystem>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "bezel/error.h"
#include "bezel/gemma4/orbax_check.h"
#include "bezel/gemma4/orbax_config.h"
#include "bezel/gemma4/orbax_map.h"
#include "bezel/io/regular_file.h"
#include "bezel/io/zarr.h"
#include "bezel/report/inspect_parts.h"

namespace bezel::report {
namespace {

using io::Json;

struct OrbaxEntry {
  std::string stored;  ///< its name in the store
  std::string name;    ///< as normal_orbax_name spells it
  std::string storage;
  std::vector<std::int64_t> shape;
  std::int64_t parameters = 0;
  std::int64_t bytes = 0;  ///< uncompressed
};

std::vector<OrbaxEntry> read_entries(const io::ZarrStore& store) {
  std::vector<OrbaxEntry> entries;
  for (const io::ZarrName& name : store.names()) {
    const io::ZarrArray array = io::ZarrArray::open(store, name.text());
    const auto parameters = static_cast<std::int64_t>(array.num_elements());
    entries.push_back({.stored = name.text(),
                       .name = gemma4::normal_orbax_name(name.path),
                       .storage = std::string(io::dtype_name(array.dtype())),
                       .shape = array.shape(),
                       .parameters = parameters,
                       .bytes = parameters * static_cast<std::int64_t>(io::dtype_bytes(array.dtype()))});
  }
  return entries;
}

/// "layer_*.attn.q_einsum.w" and 12; -1 for an array of no layer, or of all of them.
std::pair<std::string, std::int64_t> without_layer(const std::string& name) {
  if (name.find(".clip_") != std::string::npos) return {"clip bounds", -1};
  for (const std::string_view begin : {"layer_", "audio_encoder.conformer.stacked_layers_"}) {
    if (!name.starts_with(begin)) continue;
    std::int64_t layer = -1;
    const char* const end = name.data() + name.size();
    const auto [stopped, error] = std::from_chars(name.data() + begin.size(), end, layer);
    if (error == std::errc() && layer >= 0) return {std::string(begin) + "*" + std::string(stopped, end), layer};
  }
  return {name, -1};
}

/// Arrays that differ in the number of their layer only.
struct OrbaxRow {
  std::set<std::int64_t> layers;
  std::int64_t count = 0, parameters = 0, bytes = 0;
};

/// What of the arrays becomes tensors, tower by tower, and what does not.
class OrbaxContents {
 public:
  explicit OrbaxContents(const std::vector<OrbaxEntry>& entries) {
    std::vector<std::string> names;
    for (const OrbaxEntry& entry : entries) names.push_back(entry.name);
    const gemma4::OrbaxMap map(names);
    for (const OrbaxEntry& entry : entries) add(entry, map.tensors_of(entry.name, entry.shape));
  }

  void put_in(Json& out) const {
    out["storage"] = storage_;
    out["towers"] = towers_;
    out["tree"] = tree();
    out["unused_arrays"] = unused_;
    out["tensors"] = tensors_;
    out["parameters"] = parameters_;
  }

 private:
  using Key = std::tuple<std::string, std::string, std::string, std::vector<std::int64_t>>;  // tower, name, type, shape

  void add(const OrbaxEntry& entry, const std::optional<std::vector<gemma4::OrbaxTensor>>& tensors) {
    add_to(storage_[entry.storage], entry);
    if (!tensors || tensors->empty()) {
      unused_.push_back(
          {{"name", entry.stored}, {"storage", entry.storage}, {"shape", entry.shape}, {"bytes", entry.bytes}});
      return;
    }
    const std::string tower_name = tower_name_of(tensors->front().name);
    const auto num_tensors = static_cast<std::int64_t>(tensors->size());
    Json& tower = towers_[tower_name];
    add_to(tower, entry);
    tower["tensors"] = tower.value("tensors", std::int64_t{0}) + num_tensors;
    tower["parameters"] = tower.value("parameters", std::int64_t{0}) + entry.parameters;
    tensors_ += num_tensors;
    parameters_ += entry.parameters;
    const auto [name, layer] = without_layer(entry.name);
    OrbaxRow& row = rows_[{tower_name, name, entry.storage, entry.shape}];
    if (layer >= 0) row.layers.insert(layer);
    ++row.count;
    row.parameters += entry.parameters;
    row.bytes += entry.bytes;
  }

  static void add_to(Json& sums, const OrbaxEntry& entry) {
    if (sums.is_null()) sums = Json::object();
    sums["arrays"] = sums.value("arrays", std::int64_t{0}) + 1;
    sums["bytes"] = sums.value("bytes", std::int64_t{0}) + entry.bytes;
  }

  Json tree() const {
    Json out = Json::object();
    for (const auto& [key, row] : rows_) {
      const auto& [tower, name, storage, shape] = key;
      out[tower].push_back({{"name", name},
                            {"layers", ranges_text(row.layers)},
                            {"count", row.count},
                            {"storage", storage},
                            {"shape", shape},
                            {"parameters", row.parameters},
                            {"bytes", row.bytes}});
    }
    return out;
  }

  Json storage_ = Json::object(), towers_ = Json::object(), unused_ = Json::array();
  std::map<Key, OrbaxRow> rows_;
  std::int64_t tensors_ = 0, parameters_ = 0;
};

/// Of the files, whose chunks may be compressed.
std::int64_t bytes_on_disk(const std::string& folder) {
  std::int64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    if (!at->is_regular_file(ignored)) continue;
    const auto size_bytes = at->file_size(ignored);
    if (!ignored) bytes += static_cast<std::int64_t>(size_bytes);
  }
  return bytes;
}

/// Why the arrays are no checkpoint of the model that the config describes, or "".
std::string why_not_converted(const std::string& folder, const std::string& config) {
  try {
    const gemma4::OrbaxPlan plan = gemma4::plan_orbax({.model = folder, .tokenizer = "", .config = config});
    gemma4::check_orbax_plan(plan, config.empty() ? folder : config);
  } catch (const Error& error) {  // what the checkpoint holds is told all the same
    return error.what();
  }
  return "";
}

}  // namespace

Json inspect_orbax(const std::string& folder, const std::string& config) {
  const io::ZarrStore store = io::ZarrStore::open(folder);
  const std::vector<OrbaxEntry> entries = read_entries(store);
  gemma4::OrbaxShapes shapes;
  for (const OrbaxEntry& entry : entries) shapes[entry.name] = entry.shape;
  const std::string size = gemma4::orbax_size(shapes);
  Json out = {{"kind", "orbax"},
              {"path", folder},
              {"store", io::is_there(store.folder() + "/manifest.ocdbt") ? "OCDBT" : "files"},
              {"size", size},
              {"arrays", entries.size()},
              {"bytes_on_disk", bytes_on_disk(store.folder())}};
  OrbaxContents(entries).put_in(out);
  out["loads"] = false;
  out["converts"] = nullptr;
  if (size.empty() && config.empty()) return out;
  const std::string problem = why_not_converted(folder, config);
  out["converts"] = problem.empty();
  if (!problem.empty()) out["problem"] = problem;
  return out;
}

}  // namespace bezel::report
