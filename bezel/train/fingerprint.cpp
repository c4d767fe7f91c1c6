#include "bezel/train/fingerprint.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "bezel/io/checkpoint.h"
#include "bezel/io/file_sample.h"
#include "bezel/io/gguf_model.h"
#include "bezel/io/regular_file.h"
#include "bezel/io/sha256.h"
#include "bezel/train/config_binding.h"

namespace bezel::train {
namespace {

namespace fs = std::filesystem;
using io::Json;
using io::JsonView;

// Where files are, and how much and by which names they are read, is in their fingerprint; when to report and
// save, who reads the samples, recomputation and caches change no number.
constexpr std::string_view kFreeKeys[] = {"base_model",
                                          "mmproj",
                                          "tokenizer",
                                          "convert_to",
                                          "output_dir",
                                          "train_file",
                                          "eval_file",
                                          "datasets",
                                          "test_datasets",
                                          "dataset",
                                          "eval_dataset",
                                          "dataset_dir",
                                          "max_samples",
                                          "columns",
                                          "message_property_mappings",
                                          "roles",
                                          "media_root",
                                          "device",
                                          "threads",
                                          "global_batch_size",
                                          "dataloader_num_workers",
                                          "data_timeout",
                                          "eval_strategy",
                                          "eval_steps",
                                          "evals_per_epoch",
                                          "eval_delay",
                                          "load_best_model_at_end",
                                          "logging_strategy",
                                          "logging_steps",
                                          "log_samples",
                                          "save_strategy",
                                          "save_steps",
                                          "saves_per_epoch",
                                          "save_total_limit",
                                          "sample_predictions",
                                          "report_to",
                                          "cache_soft_tokens",
                                          "cache_dir",
                                          "cache_limit_gb",
                                          "force_resume",
                                          "gradient_checkpointing",
                                          "resume_from_checkpoint"};

constexpr const char* kSmallFiles[] = {"config.json",           "tokenizer.json",           "tokenizer_config.json",
                                       "processor_config.json", "preprocessor_config.json", "chat_template.jinja",
                                       "chat_template.json"};

constexpr std::size_t kSampleBytes = 4096;

std::string weights_fingerprint(const io::SafetensorsFile& file) {
  const io::RegularFile bytes(file.path());
  io::Sha256 hash;
  hash.update(std::to_string(bytes.size_bytes()) + "\n");
  for (const io::TensorInfo& tensor : file.tensors()) {
    hash.update(tensor.name + " " + std::string(io::dtype_name(tensor.dtype)) + Json(tensor.shape).dump() + "\n");
    io::update_with_samples(hash, bytes, file.data_begin() + tensor.begin_bytes, tensor.end_bytes - tensor.begin_bytes);
  }
  return hash.finish();
}

std::string weights_fingerprint(const io::GgufFile& file) {
  const io::RegularFile bytes(file.path());
  io::Sha256 hash;
  hash.update(std::to_string(bytes.size_bytes()) + "\n");
  // What describes the tensors, in full: all that comes before the first of them.
  const std::size_t data_begin = file.tensors().empty() ? file.size_bytes() : file.tensors().front().begin_bytes;
  std::string sample(kSampleBytes, '\0');
  for (std::size_t at = 0; at < data_begin; at += kSampleBytes)
    hash.update(sample.data(), bytes.read(sample.data(), std::min(data_begin - at, kSampleBytes), at));
  for (const io::GgufTensor& tensor : file.tensors())
    io::update_with_samples(hash, bytes, tensor.begin_bytes, tensor.size_bytes);
  return hash.finish();
}

std::map<std::string, std::string> read_map(const JsonView& json) {
  std::map<std::string, std::string> map;
  for (const auto& [key, value] : json.members()) map.emplace(key, value.text());
  return map;
}

std::string shortened(const std::string& value) {
  constexpr std::size_t kMost = 60;
  return value.size() <= kMost ? value : value.substr(0, 12) + "…";
}

}  // namespace

std::map<std::string, std::string> config_facts(const TrainConfig& config) {
  std::map<std::string, std::string> facts;
  for (const ConfigBinding& binding : config_bindings())
    if (binding.write != nullptr && std::ranges::find(kFreeKeys, binding.key.name) == std::end(kFreeKeys))
      facts.emplace(binding.key.name, binding.write(config));
  // However many processes share an update, and whichever key says so.
  facts["gradient_accumulation_steps"] = std::to_string(micro_batches(config));
  return facts;
}

std::vector<std::string> base_files(const std::string& folder, const std::string& mmproj) {
  std::vector<std::string> paths;
  if (io::is_gguf_path(folder)) {
    const io::GgufModel model = io::GgufModel::open(folder, mmproj);
    for (const auto& part : model.parts()) paths.push_back(part->path());
    if (model.towers() != nullptr) paths.push_back(model.towers()->path());
    return paths;
  }
  std::error_code error;
  for (const char* name : kSmallFiles)
    if (const fs::path path = fs::path(folder) / name; fs::exists(path, error)) paths.push_back(path.string());
  std::set<std::string> weights;
  const io::Checkpoint checkpoint = io::Checkpoint::open(folder);
  for (const auto& [name, entry] : checkpoint.entries()) weights.insert(entry.file->path());
  paths.insert(paths.end(), weights.begin(), weights.end());
  return paths;
}

std::map<std::string, std::string> base_facts(const std::string& folder, const std::string& mmproj) {
  std::map<std::string, std::string> facts;
  for (const std::string& path : base_files(folder, mmproj)) {
    const bool is_safetensors = path.ends_with(".safetensors");
    facts.emplace("base_model/" + fs::path(path).filename().string(),
                  io::is_gguf_path(path) ? weights_fingerprint(*io::GgufFile::open(path))
                  : is_safetensors       ? weights_fingerprint(*io::SafetensorsFile::open(path))
                                         : io::sha256_file(path));
  }
  return facts;
}

std::vector<std::string> differences(const std::map<std::string, std::string>& was,
                                     const std::map<std::string, std::string>& now) {
  std::vector<std::string> lines;
  for (const auto& [key, value] : was) {
    const auto found = now.find(key);
    if (found == now.end())
      lines.push_back(key + ": was " + shortened(value) + ", is not there");
    else if (found->second != value)
      lines.push_back(key + ": was " + shortened(value) + ", is " + shortened(found->second));
  }
  for (const auto& [key, value] : now)
    if (!was.contains(key)) lines.push_back(key + ": was not there, is " + shortened(value));
  return lines;
}

Json to_json(const RunFacts& facts) {
  return {{"config", facts.config}, {"inputs", facts.inputs}, {"machine", facts.machine}};
}

RunFacts read_run_facts(const JsonView& json) {
  return {read_map(json.at("config")), read_map(json.at("inputs")), read_map(json.at("machine"))};
}

}  // namespace bezel::train
