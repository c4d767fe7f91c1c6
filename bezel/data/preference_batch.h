#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bezel/data/dataset.h"

namespace bezel::data {

/// Puts answers into one batch, a row each, padded on the right with `pad_id`, with Batch::preferences set; `answers`
/// numbers them. With `shares`, all are in one row, and what they begin alike by is there once (collate_shared).
Batch collate_answers(std::span<const Sample> rows, std::span<const std::int64_t> answers, std::int64_t pad_id,
                      bool shares = false);

/// The prompt of `asked` with the answer of `answered`, at most `max_tokens` long (0: no bound): an answer to another
/// question.
Sample mismatched(const Sample& asked, const Sample& answered, std::size_t max_tokens);

}  // namespace bezel::data
