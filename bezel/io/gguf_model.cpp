#include "bezel/io/gguf_model.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>

#include "bezel/error.h"
#include "bezel/io/gguf_projectors.h"

namespace bezel::io {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxParts = 99999;  // five digits in a name

std::string five_digits(std::int64_t number) {
  const std::string digits = std::to_string(number);
  return std::string(5 - std::min<std::size_t>(digits.size(), 5), '0') + digits;
}

/// "-00002-of-00003.gguf"
std::string part_suffix(std::int64_t number, std::int64_t count) {
  return "-" + five_digits(number) + "-of-" + five_digits(count) + ".gguf";
}

std::int64_t count_of(const GgufFile& file) {
  const GgufValue* count = file.get("split.count");
  return count == nullptr ? 1 : count->whole(1, kMaxParts);
}

void check_part(const GgufFile& part, std::int64_t idx, std::int64_t count) {
  const std::int64_t says_idx = part.at("split.no").whole(0, kMaxParts), says_count = count_of(part);
  if (says_idx != idx || says_count != count)
    throw Error(part.path(), ": holds part ", says_idx + 1, " of ", says_count, ", expected part ", idx + 1, " of ",
                count, "; the parts are of different models, or were renamed");
}

std::string architecture_of(const GgufFile& file) {
  const GgufValue* value = file.get("general.architecture");
  return value == nullptr ? "" : std::string(value->text());
}

/// Whether a language model can be the 12B's, which has neither per-layer embeddings nor experts.
bool may_be_12b(const GgufFile& file) {
  return std::ranges::none_of(std::array{"gemma4.embedding_length_per_layer_input", "gemma4.expert_count"},
                              [&file](const char* key) {
                                const GgufValue* value = file.get(key);
                                return value != nullptr && value->whole() != 0;
                              });
}

/// Where the towers of `model` would be: beside it under its name, else the only file for towers there.
std::optional<std::string> towers_beside(const std::string& model) {
  constexpr std::string_view kPrefix = "mmproj";
  const fs::path path(model);
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code error;
  const fs::path named = folder / (std::string(kPrefix) + "-" + path.filename().string());
  if (fs::exists(named, error)) return named.string();
  std::vector<std::string> found;
  for (const auto& item : fs::directory_iterator(folder, error))
    if (const std::string name = item.path().filename().string(); name.starts_with(kPrefix) && is_gguf_path(name))
      found.push_back(item.path().string());
  return found.size() == 1 ? std::optional(found.front()) : std::nullopt;
}

}  // namespace

bool is_gguf_path(const std::string& path) { return path.ends_with(".gguf"); }

GgufModel GgufModel::open(const std::string& path, const std::string& towers) {
  GgufModel model;
  model.parts_.push_back(GgufFile::open(path));
  if (const std::int64_t count = count_of(model.metadata()); count > 1) model.open_others(count);
  model.list_tensors();
  if (towers.empty()) {
    model.find_towers();
    return model;
  }
  auto file = GgufFile::open(towers);
  if (!model.are_its_towers(*file)) model.refuse_towers(*file);
  model.take_towers(std::move(file));
  return model;
}

void GgufModel::open_others(std::int64_t count) {
  const std::string suffix = part_suffix(1, count);
  if (const std::int64_t idx = metadata().at("split.no").whole(0, kMaxParts); idx != 0)
    throw Error(path(), ": part ", idx + 1, " of ", count, " of a model; name its first part, …", suffix);
  if (!path().ends_with(suffix))
    throw Error(path(), ": the first of ", count, " parts, whose name must end in ", suffix,
                " for the others to be found");
  const std::string stem = path().substr(0, path().size() - suffix.size());
  for (std::int64_t idx = 1; idx < count; ++idx) {
    const std::string name = stem + part_suffix(idx + 1, count);
    std::error_code error;
    if (!fs::exists(name, error))
      throw Error(name, ": missing; ", path(), " is the first of ", count, " parts (incomplete download?)");
    parts_.push_back(GgufFile::open(name));
    check_part(*parts_.back(), idx, count);
  }
}

void GgufModel::list_tensors() {
  for (const auto& part : parts_)
    for (const GgufTensor& tensor : part->tensors())
      if (!entries_.emplace(tensor.name, Entry{part, &tensor}).second)
        throw Error(part->path(), ": tensor '", tensor.name, "' is also in a part before it");
  if (const GgufValue* total = metadata().get("split.tensors.count"))
    if (const std::int64_t wanted = total->whole(); wanted != static_cast<std::int64_t>(entries_.size()))
      throw Error(path(), ": the parts hold ", entries_.size(), " tensors, key 'split.tensors.count' says ", wanted);
}

void GgufModel::find_towers() {
  if (architecture_of(metadata()) != "gemma4") return;
  const auto found = towers_beside(path());
  if (!found || *found == path()) return;
  auto file = GgufFile::open(*found);
  if (are_its_towers(*file)) take_towers(std::move(file));
}

void GgufModel::take_towers(std::shared_ptr<const GgufFile> file) {
  towers_ = std::move(file);
  for (const GgufTensor& tensor : towers_->tensors())
    if (!entries_.emplace(tensor.name, Entry{towers_, &tensor}).second)
      throw Error(towers_->path(), ": tensor '", tensor.name, "' is also in ", path());
}

void GgufModel::refuse_towers(const GgufFile& file) const {
  const auto text = [&file](const char* tower, const char* name) -> std::string {
    const GgufValue* value = file.get(std::string("clip.") + tower + "." + name);
    return value == nullptr ? "none" : value->is_text() ? value->text() : std::to_string(value->whole());
  };
  const GgufValue* width = metadata().get("gemma4.embedding_length");
  throw Error(ErrorKind::kConfig, file.path(), ": not the towers of ", path(), ", architecture '",
              architecture_of(metadata()), "': expected projector_type gemma4v or gemma4a",
              may_be_12b(metadata()) ? ", or the 12B's gemma4uv or gemma4ua," : "", " and projection_dim ",
              width == nullptr ? "of a Gemma 4" : std::to_string(width->whole()), ", found clip.vision ",
              text("vision", "projector_type"), " and ", text("vision", "projection_dim"), ", clip.audio ",
              text("audio", "projector_type"), " and ", text("audio", "projection_dim"),
              "; name the mmproj file that came with the model");
}

bool GgufModel::are_its_towers(const GgufFile& file) const {
  const GgufValue* width = metadata().get("gemma4.embedding_length");
  const auto fits = [&](const std::string& tower, std::string_view projector) {
    const GgufValue* type = file.get("clip." + tower + ".projector_type");
    const GgufValue* made = file.get("clip." + tower + ".projection_dim");
    return type != nullptr && made != nullptr && width != nullptr && type->text() == projector &&
           made->whole() == width->whole();
  };
  const auto either = [&](const ProjectorTypes& types) {
    return fits("vision", types.vision) || fits("audio", types.audio);
  };
  return either(kTowerProjectors) || (may_be_12b(metadata()) && either(kEmbedderProjectors));
}

const GgufModel::Entry* GgufModel::find(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace bezel::io
