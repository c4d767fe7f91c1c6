#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <torch/types.h>

namespace torch::optim {
class AdamW;
}

namespace bezel::train {

struct AdamSettings {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
};

/// What AdamW remembers of a tensor.
struct Moments {
  torch::Tensor mean;      // of the gradients, float32, the tensor's shape
  torch::Tensor variance;  // of the gradients, uncentred, likewise
  std::int64_t steps = 0;  ///< updates of this tensor
};

/// AdamW over the adapter tensors. A tensor whose gradient is undefined is left out of an update: no moments, no decay,
/// no step count, as in PyTorch, so a tower that took no part stays where it is.
class Optimizer {
 public:
  Optimizer(std::vector<torch::Tensor> tensors, const AdamSettings& settings);
  ~Optimizer();

  /// Euclidean norm of all gradients together; NaN or Inf when one of them holds such.
  double gradient_norm() const;
  /// Scales all gradients by max_norm / (norm + 1e-6) where that is below 1, as torch's clip_grad_norm_.
  void clip(double norm, double max_norm);
  void step(double learning_rate);
  /// Leaves every gradient undefined.
  void clear_gradients();

  const std::vector<torch::Tensor>& tensors() const { return tensors_; }
  /// The moments of tensor `idx`, not copied; nothing before its first update.
  std::optional<Moments> moments(std::size_t idx) const;
  /// Goes on from `moments`, which are kept and written to.
  void set_moments(std::size_t idx, const Moments& moments);

 private:
  std::vector<torch::Tensor> tensors_;
  std::vector<std::unique_ptr<torch::optim::AdamW>> adams_;  // one for each tensor
};

}  // namespace bezel::train
