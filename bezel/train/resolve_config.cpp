#include "bezel/train/resolve_config.h"

#include "bezel/lora/adapter_io.h"

namespace bezel::train {

TrainConfig resolve_config(TrainConfig config) {
  if (config.init_adapter.empty()) return config;
  const double dropout = config.lora.dropout;
  config.lora = lora::read_lora_config(config.init_adapter);
  config.lora.dropout = dropout;
  return config;
}

}  // namespace bezel::train
