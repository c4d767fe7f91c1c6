#include "bezel/train/checkpoint.h"

#include <filesystem>

#include <ATen/ATen.h>

#include "bezel/io/atomic_folder.h"
#include "bezel/io/atomic_write.h"
#include "bezel/io/manifest.h"
#include "bezel/io/tensor_io.h"
#include "bezel/lora/file_names.h"
#include "bezel/train/residual_file.h"

namespace bezel::train {
namespace {

using io::Json;
using io::JsonView;

constexpr std::int64_t kFormat = 1;
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kState = "training_state.json";

std::string in_folder(const std::string& folder, const char* name) {
  return (std::filesystem::path(folder) / name).string();
}

Json to_json(const TrainingState& state) {
  return {{"format", kFormat},
          {"run_id", state.run_id},
          {"recompute", state.recompute},
          {"facts", train::to_json(state.facts)},
          {"trainer", train::to_json(state.trainer)},
          {"random", state.random}};
}

}  // namespace

void save_checkpoint(const std::string& path, const CheckpointParts& parts) {
  io::write_folder_atomically(path, [&](const std::string& folder) {
    lora::save_adapter(folder, parts.selection, parts.lora, parts.base);
    io::save_safetensors(in_folder(folder, kOptimizer), parts.optimizer.state());
    if (parts.residuals != nullptr && !parts.residuals->empty())
      io::save_safetensors(in_folder(folder, kResidualFile), *parts.residuals);
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
  StateFile state(in_folder(folder, kOptimizer));
  restore_parameters(folder, selection);
  optimizer.load_state(state);
  state.finish();
}

void restore_parameters(const std::string& folder, const lora::Selection& selection) {
  StateFile values(in_folder(folder, lora::kAdapterWeights));
  for (const lora::SavedTensor& saved : selection.saved_tensors())
    saved.replace(values.take_like(saved.key, saved.whole()));
  values.finish();
}

}  // namespace bezel::train
