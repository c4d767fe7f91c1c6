#include "bezel/io/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "bezel/error.h"
#include "bezel/io/checkpoint_folder.h"
#include "bezel/io/json.h"
#include "bezel/io/key_map.h"

namespace bezel::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr std::size_t kMaxIndexBytes = 64u << 20;
constexpr const char* kStaleIndex =
    "; index and shards are of different saves: download both again, or save the model anew with save_pretrained";

[[noreturn]] void fail_without_weights(const std::string& folder) {
  const std::string instead = instead_of_checkpoint(folder);
  throw Error(folder, ": ", instead.empty() ? "" : instead + " (",
              "no weights: looked for model.safetensors and model.safetensors.index.json",
              instead.empty() ? " (incomplete download?)" : ")");
}

bool is_inside(const fs::path& file, const fs::path& folder) {
  const auto [rest, _] = std::mismatch(folder.begin(), folder.end(), file.begin(), file.end());
  return rest == folder.end();
}

/// Path of the weights called `name`, which must not lead out of the folder through a link. `why` says in an error who
/// expects them there.
fs::path weights_path(const fs::path& folder, const std::string& name, std::string_view why) {
  const fs::path path = folder / name;
  std::error_code error;
  const fs::path real_path = fs::canonical(path, error);
  if (error) throw Error(ErrorKind::kIo, path.string(), ": ", error.message(), " (", why, ")");
  const fs::path real_folder = fs::canonical(folder);
  if (is_inside(real_path, real_folder)) return path;
  // The Hugging Face cache keeps snapshots/<revision>/<name> -> ../../blobs/<hash>.
  const fs::path snapshots = real_folder.parent_path();
  if (snapshots.filename() == "snapshots" && real_path.parent_path() == snapshots.parent_path() / "blobs") return path;
  throw Error(path.string(), ": a link to ", real_path.string(),
              ", outside the checkpoint's folder; copy the file, or link the whole folder");
}

/// Path of a shard that the index names; the name comes from outside.
fs::path shard_path(const fs::path& folder, const JsonView& view) {
  const std::string name = view.text();
  if (name.empty() || name == "." || name == ".." || name.find_first_of(std::string_view("/\\\0", 3)) != name.npos)
    view.fail("the plain name of a file in the checkpoint's folder");
  return weights_path(folder, name, "the index lists this shard; incomplete download, or an index of another save?");
}

}  // namespace

Checkpoint::Checkpoint(std::string folder) : folder_(std::move(folder)) {}

bool Checkpoint::has_weights(const std::string& folder) {
  std::error_code error;
  return fs::exists(fs::symlink_status(fs::path(folder) / kSingle, error)) ||
         fs::exists(fs::path(folder) / kIndex, error);
}

Checkpoint Checkpoint::open(const std::string& folder) {
  check_checkpoint_folder(folder);
  Checkpoint checkpoint(folder);
  const fs::path index = fs::path(folder) / kIndex;
  std::error_code error;
  // The link's own status: a dangling link is reported, not skipped.
  if (fs::exists(fs::symlink_status(fs::path(folder) / kSingle, error))) {
    if (fs::exists(index, error))
      checkpoint.warnings_.push_back(index.string() + " is not used: " + kSingle +
                                     " is beside it, which transformers reads first too; remove the one that is stale");
    const auto file = SafetensorsFile::open(weights_path(folder, kSingle, "a link that leads nowhere").string());
    for (const TensorInfo& tensor : file->tensors()) checkpoint.entries_.emplace(tensor.name, Entry{file, &tensor});
  } else if (fs::exists(index, error)) {
    checkpoint.open_shards(index.string());
  } else {
    fail_without_weights(folder);
  }
  checkpoint.find_patch_embedder();
  return checkpoint;
}

void Checkpoint::find_patch_embedder() {
  unified_ = std::ranges::any_of(
      entries_, [](const auto& entry) { return is_patch_embedder(canonical_tensor_name(entry.first)); });
}

std::string Checkpoint::canonical_name(std::string_view name) const {
  const std::string canonical = canonical_tensor_name(name);
  return unified_ ? unified_name(canonical) : canonical;
}

void Checkpoint::open_shards(const std::string& index_path) {
  const Json json = read_json_file(index_path, {.max_bytes = kMaxIndexBytes});
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> shards;
  std::map<std::string, std::string, std::less<>> shard_of;
  for (const auto& [name, view] : JsonView(json, index_path).at("weight_map").members()) {
    const std::string shard = view.text();
    shard_of.emplace(name, shard);
    if (!shards.contains(shard)) shards.emplace(shard, SafetensorsFile::open(shard_path(folder_, view).string()));
  }
  for (const auto& [shard, file] : shards) {
    for (const TensorInfo& tensor : file->tensors()) {
      const auto [entry, added] = entries_.emplace(tensor.name, Entry{file, &tensor});
      if (!added) throw Error(file->path(), ": tensor '", tensor.name, "' is also in ", entry->second.file->path());
      const auto listed = shard_of.find(tensor.name);
      if (listed == shard_of.end())
        throw Error(file->path(), ": tensor '", tensor.name, "' is not listed in ", index_path, kStaleIndex);
    }
  }
  for (const auto& [name, shard] : shard_of) {
    const Entry* entry = find(name);
    if (entry == nullptr || entry->file != shards.at(shard))
      throw Error(shards.at(shard)->path(), ": tensor '", name, "' is missing; ", index_path, " says it is here",
                  kStaleIndex);
  }
}

const Checkpoint::Entry* Checkpoint::find(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace bezel::io
