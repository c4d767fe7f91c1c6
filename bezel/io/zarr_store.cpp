#include "bezel/io/zarr_store.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "bezel/error.h"
#include "bezel/io/json.h"
#include "bezel/io/regular_file.h"

namespace bezel::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMetadata = "_METADATA";
constexpr const char* kManifest = "manifest.ocdbt";

/// A segment that could lead out of the folder is refused, also where names are keys and no paths.
std::string segment_of(const JsonView& key) {
  std::string text = key.text();
  const fs::path parts(text);
  const bool leads_up = std::ranges::any_of(parts, [](const auto& part) { return part == ".." || part == "."; });
  if (text.empty() || text.size() > 512 || parts.is_absolute() || leads_up || text.find('\0') != std::string::npos)
    key.fail("a part of an array's name, without '..' and not beginning with '/'");
  return text;
}

std::vector<ZarrName> read_names(const JsonView& metadata) {
  std::vector<ZarrName> names;
  std::set<std::string> seen;
  for (const auto& [text, entry] : metadata.at("tree_metadata").members()) {
    ZarrName name;
    for (const JsonView& key : entry.at("key_metadata").elements()) name.path.push_back(segment_of(key.at("key")));
    if (name.path.empty()) entry.at("key_metadata").fail("at least one part of a name");
    if (!seen.insert(name.text()).second)
      entry.fail("a name that no other entry has, '" + name.text() + "' comes twice");
    names.push_back(std::move(name));
  }
  return names;
}

bool has_checkpoint(const std::string& folder) {
  return is_there(folder + "/" + kMetadata) || is_there(folder + "/" + kManifest);
}

}  // namespace

std::string ZarrName::text() const {
  std::string text;
  for (const std::string& segment : path) text += (text.empty() ? "" : ".") + segment;
  return text;
}

std::optional<std::string> find_orbax_folder(const std::string& folder) {
  if (has_checkpoint(folder)) return folder;
  for (const char* name : {"params", "default", "state"})
    if (std::string inner = folder + "/" + name; has_checkpoint(inner)) return inner;
  return std::nullopt;
}

ZarrStore ZarrStore::open(const std::string& folder) {
  const auto found = find_orbax_folder(folder);
  if (!found)
    throw Error(folder, ": neither ", kMetadata, " nor ", kManifest, " is there; expected a checkpoint of Orbax");
  ZarrStore store;
  store.folder_ = *found;
  const std::string path = store.folder_ + "/" + kMetadata;
  const Json json = read_json_file(path);
  const JsonView metadata(json, path);
  store.names_ = read_names(metadata);
  const bool has_manifest = is_there(store.folder_ + "/" + kManifest);
  const auto stated = metadata.find("use_ocdbt");
  if (stated && stated->boolean() != has_manifest)
    stated->fail(has_manifest ? "true, because manifest.ocdbt is there"
                              : "false, because manifest.ocdbt is missing; fetch the checkpoint again");
  if (has_manifest) store.ocdbt_ = std::make_shared<const Ocdbt>(Ocdbt::open(store.folder_));
  return store;
}

std::optional<OcdbtValue> ZarrStore::find(const std::string& key) const {
  if (ocdbt_) {
    const OcdbtValue* value = ocdbt_->find(key);
    return value == nullptr ? std::nullopt : std::optional(*value);
  }
  const std::string path = folder_ + "/" + key;
  if (!is_there(path)) return std::nullopt;
  return OcdbtValue::of_file(path);
}

}  // namespace bezel::io
