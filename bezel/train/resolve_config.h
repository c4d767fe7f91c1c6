#pragma once

#include "bezel/train/config.h"

namespace bezel::train {

/// The configuration that a run has: `config`, with the LoRA keys of `init_adapter` where one is given; `lora_dropout`,
/// which concerns training alone, stays; and with the tokens that the run adds (settle_new_tokens). Throws Error when
/// that adapter cannot be read.
TrainConfig resolve_config(TrainConfig config);

}  // namespace bezel::train
