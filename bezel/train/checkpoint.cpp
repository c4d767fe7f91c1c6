#include "bezel/train/checkpoint.h"

#include <filesystem>
#include <map>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/error.h"
#include "bezel/io/atomic_folder.h"
#include "bezel/io/atomic_write.h"
#include "bezel/io/key_map.h"
#include "bezel/io/manifest.h"
#include "bezel/io/tensor_io.h"

namespace bezel::train {
namespace {

using io::Json;
using io::JsonView;
using torch::Tensor;

constexpr std::int64_t kFormat = 1;
constexpr const char* kAdapter = "adapter_model.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kState = "training_state.json";

std::string in_folder(const std::string& folder, const char* name) {
  return (std::filesystem::path(folder) / name).string();
}

// The adapter's keys, in the order of Selection::tensors().
std::vector<std::string> tensor_keys(const lora::Selection& selection) {
  std::vector<std::string> keys;
  for (const lora::Target& target : selection.targets)
    for (const char* part : {"lora_A", "lora_B"})
      keys.push_back(io::adapter_key(target.name, part, selection.text_only));
  return keys;
}

void save_moments(const std::string& folder, const CheckpointParts& parts) {
  const std::vector<std::string> keys = tensor_keys(parts.selection);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto moments = parts.optimizer.moments(i);
    if (!moments) continue;
    tensors.emplace_back("exp_avg." + keys[i], moments->mean);
    tensors.emplace_back("exp_avg_sq." + keys[i], moments->variance);
    tensors.emplace_back("step." + keys[i], at::scalar_tensor(moments->steps, torch::kLong));
  }
  io::save_safetensors(in_folder(folder, kOptimizer), tensors);
}

Json to_json(const TrainingState& state) {
  return {{"format", kFormat},
          {"run_id", state.run_id},
          {"recompute", state.recompute},
          {"facts", train::to_json(state.facts)},
          {"trainer", train::to_json(state.trainer)},
          {"random", state.random}};
}

// Takes tensors out of a file one by one; what is left in the end does not belong there.
class TensorFile {
 public:
  explicit TensorFile(std::string path) : path_(std::move(path)), tensors_(io::load_safetensors(path_)) {}

  bool has(const std::string& key) const { return tensors_.contains(key); }

  // A copy, on the device of `like`: the file is mapped read-only, and training writes.
  Tensor take(const std::string& key, torch::IntArrayRef shape, torch::ScalarType dtype, torch::Device device) {
    const auto found = tensors_.find(key);
    if (found == tensors_.end()) throw Error(path_, ": tensor '", key, "' is missing");
    if (found->second.sizes() != shape || found->second.scalar_type() != dtype)
      throw Error(path_, ": tensor '", key, "' is ", found->second.scalar_type(), " ", found->second.sizes(),
                  ", this run has ", dtype, " ", shape);
    Tensor copy = found->second.to(device, dtype, /*non_blocking=*/false, /*copy=*/true);
    tensors_.erase(found);
    return copy;
  }

  void finish() const {
    if (tensors_.empty()) return;
    throw Error(path_, ": tensor '", tensors_.begin()->first, "' fits nothing that this run adapts");
  }

 private:
  std::string path_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace

void save_checkpoint(const std::string& path, const CheckpointParts& parts) {
  io::write_folder_atomically(path, [&](const std::string& folder) {
    lora::save_adapter(folder, parts.selection, parts.lora, parts.base);
    save_moments(folder, parts);
    io::write_file_atomically(in_folder(folder, "trainer_state.json"), parts.trainer_state);
    io::write_file_atomically(in_folder(folder, "metrics.jsonl"), parts.metrics);
    io::write_file_atomically(in_folder(folder, kState), to_json(parts.state).dump(2) + "\n");
    io::write_manifest(folder);
  });
}

TrainingState read_training_state(const std::string& folder) {
  const std::string path = in_folder(folder, kState);
  const Json json = io::read_json_file(path);
  const JsonView view(json, path);
  if (view.at("format").whole() != kFormat) view.at("format").fail("1: it is of another version of bezel");
  const JsonView random = view.at("random");
  if (!random.is_object()) random.fail("an object");
  return {.run_id = view.at("run_id").text(),
          .recompute = view.at("recompute").boolean(),
          .facts = read_run_facts(view.at("facts")),
          .trainer = read_trainer_state(view.at("trainer")),
          .random = random.value()};
}

void restore_tensors(const std::string& folder, const lora::Selection& selection, Optimizer& optimizer) {
  const std::vector<std::string> keys = tensor_keys(selection);
  TensorFile values(in_folder(folder, kAdapter)), moments(in_folder(folder, kOptimizer));
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const Tensor& tensor = optimizer.tensors().at(i);
    const auto take = [&](TensorFile& file, const std::string& key) {
      return file.take(key, tensor.sizes(), torch::kFloat, tensor.device());
    };
    tensor.copy_(take(values, keys[i]));
    if (!moments.has("step." + keys[i])) continue;
    const Tensor steps = moments.take("step." + keys[i], {}, torch::kLong, torch::kCPU);
    optimizer.set_moments(
        i, {take(moments, "exp_avg." + keys[i]), take(moments, "exp_avg_sq." + keys[i]), steps.item<std::int64_t>()});
  }
  values.finish();
  moments.finish();
}

}  // namespace bezel::train
