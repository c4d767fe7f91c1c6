#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "bezel/nn/row_groups.h"

namespace bezel::nn {

class StackedExperts;

/// While one lives, the mixtures that this thread runs count the rows that each of their experts gets; also when a
/// layer is run again for its backward pass. Nothing is counted otherwise. Of several the one made last counts.
class ExpertCounting {
 public:
  ExpertCounting();
  ~ExpertCounting();
  ExpertCounting(const ExpertCounting&) = delete;
  ExpertCounting& operator=(const ExpertCounting&) = delete;

  /// This thread's; null when there is none.
  static ExpertCounting* current();

  void add(const StackedExperts* experts, std::int64_t num_experts, const RowGroups& rows);
  void clear();
  /// Of the mixtures that ran, rows of each expert. What a device has counted is read from it now.
  const std::unordered_map<const StackedExperts*, std::vector<std::int64_t>>& counts() const;

 private:
  mutable std::unordered_map<const StackedExperts*, torch::Tensor> on_device_;  // int64 [E], not in counts_ yet
  mutable std::unordered_map<const StackedExperts*, std::vector<std::int64_t>> counts_;
  ExpertCounting* outer_;
};

}  // namespace bezel::nn
