#pragma once

#include <optional>
#include <string>

#include "bezel/lora/adapter_io.h"
#include "bezel/lora/targets.h"
#include "bezel/train/config.h"
#include "bezel/train/trainer.h"

namespace bezel::train {

/// README.md of an adapter: base, data, what is adapted, settings, losses, how to load it. `eval_loss` is the last
/// held-out loss.
std::string model_card(const TrainConfig& config, const lora::AdapterBase& base, const TrainSummary& summary,
                       const lora::Selection& selection, std::optional<double> eval_loss);

}  // namespace bezel::train
