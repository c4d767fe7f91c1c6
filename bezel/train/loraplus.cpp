#include "bezel/train/loraplus.h"

namespace bezel::train {

double rate_factor(const LoraPlus& settings, std::string_view key, std::int64_t num_dimensions) {
  if (!settings.ratio) return 1.0;
  if (key.find("lora_embedding_") != key.npos)
    return settings.learning_rate > 0 ? settings.embedding_rate / settings.learning_rate : 0.0;
  return key.find("lora_B") != key.npos || num_dimensions == 1 ? *settings.ratio : 1.0;
}

}  // namespace bezel::train
