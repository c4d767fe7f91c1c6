#include "bezel/train/objective.h"

#include <utility>

#include "bezel/train/forward.h"

namespace bezel::train {

SupervisedObjective::SupervisedObjective(gemma4::Model model, torch::Device device, gemma4::PhaseObserver observer)
    : model_(std::move(model)), device_(device), observer_(std::move(observer)) {}

std::int64_t SupervisedObjective::weight(const data::Batch& batch) const { return batch.num_labels(); }

torch::Tensor SupervisedObjective::loss_sum(const data::Batch& batch) {
  return train::loss_sum(model_, device_.is_cpu() ? batch : batch.to(device_), observer_);
}

}  // namespace bezel::train
