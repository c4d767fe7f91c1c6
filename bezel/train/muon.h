#pragma once

#include <cstdint>
#include <string>

#include "bezel/train/optimizer_settings.h"
#include "bezel/train/update_rule.h"

namespace bezel::train {

/// A matrix with the singular vectors of `matrix` [m, n] and singular values near 1, in bfloat16. Reference: the
/// Newton-Schulz iteration of torch.optim.Muon.
torch::Tensor orthogonalized(const torch::Tensor& matrix, std::int64_t steps);

/// Whether a parameter is a matrix A or B of an adapted linear layer. Embeddings, vectors and whole modules are not.
bool takes_muon(const std::string& name, const torch::Tensor& parameter);

/// Muon: a momentum whose singular values are made equal. Reference: torch.optim.Muon; a rate is scaled by
/// 0.2 sqrt(max(m, n)) unless options select "original", sqrt(max(1, m / n)). Slot: momentum_buffer.
class Muon : public UpdateRule {
 public:
  explicit Muon(const OptimizerSettings& settings);
  std::vector<Slot> slots(const torch::Tensor& parameter) const override;
  void apply(const Update& update) const override;

 private:
  double scale(const torch::Tensor& parameter) const;

  double momentum_;
  bool nesterov_, matches_adamw_;
  std::int64_t ns_steps_;
};

}  // namespace bezel::train
