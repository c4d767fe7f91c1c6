#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace bezel::input {

struct Batch;

/// What an answer is to its objective.
enum class AnswerRole {
  kOnly,         ///< of a supervised sample
  kChosen,       ///< of a pair
  kRejected,     ///< of the same pair, in the row behind
  kDesirable,    ///< labelled as good
  kUndesirable,  ///< labelled as bad
};

/// What training by preference must know of the answers in a batch.
struct PreferenceRows {
  std::vector<AnswerRole> roles;      ///< [N], of each answer; N is B where each has a row of its own
  std::vector<std::int64_t> answers;  ///< [N], the number that the reference's log probability is kept under
  std::vector<bool> is_answer;        ///< [L], whether label_ids belongs to the answer; the others belong to its prompt
  std::vector<std::int64_t> label_answer;  ///< [L], which of the N answers it is of, or of whose prompt
  /// Each prompt before the answer to another, for the divergence of KTO; its answers have numbers, too. Null: none.
  std::shared_ptr<const Batch> mismatched;
};

}  // namespace bezel::input
