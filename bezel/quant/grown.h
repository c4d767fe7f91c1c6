#pragma once

#include <cstdint>
#include <memory>

#include "bezel/quant/weight.h"

namespace bezel::quant {

/// The table `base` [V, H] with rows appended up to `num_rows`, each the mean of its V rows, rounded as they are
/// stored: what transformers' resize_token_embeddings begins with (mean_resizing, but for noise of 1e-9 of the rows'
/// covariance). `base` is neither copied nor changed; the mean is made when one of the new rows is first needed.
std::shared_ptr<const Weight> grown_weight(std::shared_ptr<const Weight> base, std::int64_t num_rows);

}  // namespace bezel::quant
