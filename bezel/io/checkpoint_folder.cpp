#include "bezel/io/checkpoint_folder.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <utility>
#include <vector>

#include "bezel/error.h"
#include "bezel/io/gguf_model.h"

namespace bezel::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSafetensors = ".safetensors";
constexpr std::string_view kConvertFirst =
    ", which Bezel does not read; load it with transformers and save it with save_pretrained";

// "model-00001-of-00003.safetensors"
bool is_shard(std::string_view name) {
  if (!name.ends_with(kSafetensors)) return false;
  name.remove_suffix(kSafetensors.size());
  const std::size_t of = name.rfind("-of-");
  const auto is_number = [](std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  };
  if (of == name.npos || !is_number(name.substr(of + 4))) return false;
  const std::size_t dash = name.rfind('-', of - 1);
  return of > 0 && dash != name.npos && is_number(name.substr(dash + 1, of - dash - 1));
}

bool is_pickle(std::string_view name) {
  return (name.starts_with("pytorch_model") && (name.ends_with(".bin") || name.ends_with(".bin.index.json"))) ||
         name.ends_with(".pth") || name.ends_with(".pt") || name.ends_with(".ckpt");
}

/// The names in a folder, in order.
class Names {
 public:
  explicit Names(const fs::path& folder) {
    std::error_code error;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
      names_.push_back(entry->path().filename().string());
    std::ranges::sort(names_);
  }

  bool has(std::string_view name) const { return std::ranges::find(names_, name) != names_.end(); }
  std::vector<std::string> where(const std::function<bool(std::string_view)>& is_wanted) const {
    std::vector<std::string> found;
    std::ranges::copy_if(names_, std::back_inserter(found), is_wanted);
    return found;
  }
  bool empty() const { return names_.empty(); }

 private:
  std::vector<std::string> names_;
};

// Up to three of them: "a, b, c …".
std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 3); ++i) text += (i > 0 ? ", " : "") + names[i];
  return text + (names.size() > 3 ? " …" : "");
}

// Weights in files of another name or format.
std::string other_weights(const Names& names) {
  if (const auto shards = names.where(is_shard); !shards.empty())
    return "holds the shards " + listed(shards) +
           " but no model.safetensors.index.json, which says where each tensor is; download it too, or save the model "
           "again with save_pretrained";
  const auto ends = [](std::string_view ending) {
    return [ending](std::string_view n) { return n.ends_with(ending); };
  };
  if (const auto others = names.where(ends(kSafetensors)); !others.empty() && !names.has("model.safetensors"))
    return "holds " + listed(others) + ", none of which is called model.safetensors or listed in " +
           "model.safetensors.index.json; if it is the whole model, rename it to model.safetensors";
  if (const auto ggufs = names.where(ends(".gguf")); !ggufs.empty())
    return "holds the GGUF file " + listed(ggufs) + "; name the file itself as the model";
  for (const char* other : {"flax_model.msgpack", "tf_model.h5", "weights.npz"})
    if (names.has(other)) return std::string("holds ") + other + std::string(kConvertFirst);
  return "";
}

// A folder in it that is a checkpoint.
std::string inner_checkpoint(const fs::path& folder, const Names& names) {
  std::error_code error;
  const auto inner = names.where([&](std::string_view name) {
    return fs::exists(folder / name / "config.json", error) || fs::exists(folder / name / "adapter_config.json", error);
  });
  return inner.empty() ? "" : "holds folders with models or adapters in them: name one of " + listed(inner);
}

}  // namespace

void check_checkpoint_folder(const std::string& folder) {
  std::error_code error;
  if (!fs::exists(folder, error))
    throw Error(ErrorKind::kIo, folder, ": no such folder; expected a checkpoint folder on this machine");
  if (is_gguf_path(folder))
    throw Error(folder, ": a GGUF file, which is trained, evaluated and asked as it is; this reads a checkpoint ",
                "folder, with config.json and model.safetensors");
  if (!fs::is_directory(folder, error))
    throw Error(folder, ": not a folder; expected the folder that holds config.json and model.safetensors");
}

std::string instead_of_checkpoint(const std::string& folder) {
  const Names names(folder);
  if (names.empty()) return "the folder is empty";
  if (const auto pickles = names.where(is_pickle); !pickles.empty() && !names.has("model.safetensors"))
    return "holds " + pickles.front() +
           " but no model.safetensors; only safetensors is read, pickle files never: convert it first";
  if (names.has("adapter_model.safetensors") || names.has("adapter_config.json"))
    return "holds an adapter, not a model; name its base as the model, and this folder as the adapter (--adapter, "
           "init_adapter)";
  if (names.has("adapters.safetensors"))
    return "holds an adapter of MLX; `bezel convert --adapter … --to peft --output D` makes one that Bezel reads";
  if (names.has("manifest.ocdbt") || names.has("_METADATA") || names.has("_CHECKPOINT_METADATA"))
    return "a checkpoint of Orbax, the form of Google's JAX releases; `bezel convert` makes one that Bezel loads";
  if (names.has("snapshots") && names.has("blobs"))
    return "a model's folder in the cache of Hugging Face; name the folder below its snapshots/";
  if (std::string text = other_weights(names); !text.empty()) return text;
  return inner_checkpoint(folder, names);
}

}  // namespace bezel::io
