#pragma once

#include <memory>

#include "bezel/gemma4/soft_token_cache.h"
#include "bezel/train/config.h"
#include "bezel/train/fingerprint.h"

namespace bezel::train {

/// The cache of a run's soft tokens, or null where it is not wanted; `repeats`: some sample comes more than once.
std::shared_ptr<gemma4::SoftTokenCache> make_soft_token_cache(const TrainConfig& config, const RunFacts& facts,
                                                              bool repeats);

}  // namespace bezel::train
