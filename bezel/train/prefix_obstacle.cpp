#include "bezel/train/prefix_obstacle.h"

namespace bezel::train {

std::string prefix_obstacle(const TrainConfig& config) {
  if (config.lora.dropout > 0) return "lora_dropout draws another mask for each sample";
  if (config.neftune_noise_alpha > 0) return "neftune_noise_alpha draws other noise for each sample";
  return "";
}

}  // namespace bezel::train
