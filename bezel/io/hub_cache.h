#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bezel::io {

/// Whether `name` could be a model of the Hugging Face hub: "organization/name", without what only paths have.
bool is_hub_id(std::string_view name);

/// Folders where the hub's tools keep downloads, the first that counts first: HF_HUB_CACHE, HF_HOME/hub,
/// XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub.
std::vector<std::string> hub_cache_roots();

/// The snapshot in `folder`, when it is a folder of such a cache ("models--org--name", with refs and snapshots): that
/// of refs/main, else the only one. No value for any other folder. Throws Error (kConfig) when there are several
/// snapshots and no refs/main, or none.
std::optional<std::string> find_snapshot(const std::string& folder);

/// The folder or file of a model: `name` itself where it exists, the snapshot of a cache folder, or that of a hub id in
/// the local cache. Downloads nothing. Throws Error (kConfig) for a hub id that is not there, with the command that
/// downloads it; another name that does not exist comes back as it is.
std::string find_model(const std::string& name);

}  // namespace bezel::io
