#include "bezel/train/resolve_config.h"

#include <filesystem>

#include "bezel/lora/adapter_io.h"
#include "bezel/train/new_tokens.h"
#include "bezel/train/resume.h"

namespace bezel::train {
namespace {

// A resumed run has the adapter in its checkpoints; the initial adapter may be gone.
std::string adapter_folder(const TrainConfig& config) {
  std::error_code error;
  if (config.resume_from_checkpoint.empty() || std::filesystem::exists(config.init_adapter, error))
    return config.init_adapter;
  const auto checkpoints = list_checkpoints(config.output_dir);  // the newest first
  return checkpoints.empty() ? config.init_adapter : checkpoints.front().path;
}

}  // namespace

TrainConfig resolve_config(TrainConfig config) {
  const std::string adapter = config.init_adapter.empty() ? "" : adapter_folder(config);
  if (!adapter.empty()) {
    const double dropout = config.lora.dropout;
    config.lora = lora::read_lora_config(adapter);
    config.lora.dropout = dropout;
  }
  settle_new_tokens(config, adapter);
  return config;
}

}  // namespace bezel::train
