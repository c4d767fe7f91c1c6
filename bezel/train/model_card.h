#pragma once

#include <string>

#include "bezel/io/json.h"
#include "bezel/lora/targets.h"
#include "bezel/train/config.h"
#include "bezel/train/trainer.h"

namespace bezel::train {

/// README.md of an adapter: base, data, what is adapted, settings, losses, how to load it. `history` is
/// trainer_state.json's log_history.
std::string model_card(const TrainConfig& config, const TrainSummary& summary, const lora::Selection& selection,
                       const io::Json& history);

}  // namespace bezel::train
