#include "bezel/io/checkpoint_writer.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <span>

#include "bezel/io/new_folder.h"

namespace bezel::io {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 9> kWeightEndings = {
    ".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".gguf", ".pt", ".pth", ".h5", ".msgpack"};

bool is_small_file(const std::string& name) {
  const auto ends = [&](std::string_view ending) { return name.ends_with(ending); };
  return name != "config.json" && name != kOriginFile && std::ranges::none_of(kWeightEndings, ends);
}

using Shard = std::span<const CheckpointPart>;

// Parts in their order; a new shard begins where the next part would pass the limit.
std::vector<Shard> plan_shards(const std::vector<CheckpointPart>& parts, std::size_t max_bytes) {
  std::vector<Shard> shards;
  std::size_t begin = 0, bytes = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::size_t more = parts[i].size_bytes();
    if (i > begin && bytes + more > max_bytes) {
      shards.emplace_back(parts.data() + begin, i - begin);
      begin = i;
      bytes = 0;
    }
    bytes += more;
  }
  shards.emplace_back(parts.data() + begin, parts.size() - begin);
  return shards;
}

std::string shard_name(std::size_t idx, std::size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", idx + 1, count);
  return name;
}

void write_shard(const fs::path& path, Shard shard) {
  std::vector<TensorSpec> specs;
  for (const CheckpointPart& part : shard) specs.insert(specs.end(), part.tensors.begin(), part.tensors.end());
  stream_safetensors(path.string(), specs, {{"format", "pt"}}, [&](TensorSink& sink) {
    for (const CheckpointPart& part : shard) part.write(sink);
  });
}

}  // namespace

std::size_t CheckpointPart::size_bytes() const {
  std::size_t bytes = 0;
  for (const TensorSpec& tensor : tensors) bytes += tensor.size_bytes();
  return bytes;
}

CheckpointPart copied_part(const Checkpoint::Entry& entry, std::string name) {
  const TensorInfo& info = *entry.info;
  const auto write = [file = entry.file, &info, name](TensorSink& sink) {
    sink.put(name, file->data(info), info.end_bytes - info.begin_bytes);
    file->evict(info);
  };
  return {{{std::move(name), info.dtype, info.shape}}, write};
}

void untie_head(Json& config) {
  config["tie_word_embeddings"] = false;
  if (config.contains("text_config") && config["text_config"].is_object())
    config["text_config"]["tie_word_embeddings"] = false;
}

WrittenCheckpoint write_checkpoint(const NewCheckpoint& checkpoint, const std::string& output) {
  NewFolder folder(output);
  const std::vector<Shard> shards = plan_shards(checkpoint.parts, checkpoint.max_shard_bytes);
  WrittenCheckpoint written{.files = static_cast<std::int64_t>(shards.size())};
  Json places = Json::object();
  folder.copy_files(checkpoint.source,
                    [&](const std::string& name) { return is_small_file(name) && !checkpoint.files.contains(name); });
  for (const auto& [name, text] : checkpoint.files) write_file_atomically((folder.path() / name).string(), text);
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    write_shard(folder.path() / name, shards[i]);
    for (const CheckpointPart& part : shards[i]) {
      written.bytes += static_cast<std::int64_t>(part.size_bytes());
      for (const TensorSpec& tensor : part.tensors) places[tensor.name] = name;
    }
  }
  if (shards.size() > 1) {
    const Json index = {{"metadata", {{"total_size", written.bytes}}}, {"weight_map", places}};
    write_file_atomically((folder.path() / "model.safetensors.index.json").string(), index.dump(2) + "\n");
  }
  write_file_atomically((folder.path() / "config.json").string(), checkpoint.config.dump(2) + "\n");
  if (!checkpoint.origin.is_null())
    write_file_atomically((folder.path() / kOriginFile).string(), checkpoint.origin.dump(2) + "\n");
  folder.commit();
  return written;
}

}  // namespace bezel::io
