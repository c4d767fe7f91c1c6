#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "bezel/lora/targets.h"

namespace bezel::lora {

/// Takes the adapters of a selection off while it lives: the model is its base.
class ScopedAdapterDisable {
 public:
  explicit ScopedAdapterDisable(const Selection& selection)
      : targets_(selection.targets), tables_(selection.tables), norms_(selection.norms) {
    for (const TableTarget& table : tables_) table.take_out();
    for (const NormTarget& norm : norms_) norm.take_out();
    for (const Target& target : targets_) kept_.push_back(std::exchange(target.adapter(), std::nullopt));
  }
  ScopedAdapterDisable(const ScopedAdapterDisable&) = delete;
  ScopedAdapterDisable& operator=(const ScopedAdapterDisable&) = delete;
  ~ScopedAdapterDisable() {
    for (const TableTarget& table : tables_) table.put();
    for (const NormTarget& norm : norms_) norm.put();
    for (std::size_t i = 0; i < targets_.size(); ++i) targets_[i].adapter() = std::move(kept_[i]);
  }

 private:
  std::vector<Target> targets_;
  std::vector<TableTarget> tables_;
  std::vector<NormTarget> norms_;
  std::vector<std::optional<nn::Adapter>> kept_;
};

}  // namespace bezel::lora
