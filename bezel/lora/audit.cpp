#include "bezel/lora/audit.h"

#include <algorithm>
#include <set>

#include <ATen/ATen.h>

#include "bezel/error.h"

namespace bezel::lora {
namespace {

constexpr std::size_t kNamedLayers = 8;

/// Which tensors have an element that is not zero. They are asked at once: a device is waited for one time.
class Nonzero {
 public:
  explicit Nonzero(const std::vector<torch::Tensor>& tensors) {
    std::vector<torch::Tensor> counts;
    for (const torch::Tensor& tensor : tensors)
      if (tensor.defined()) counts.push_back(tensor.count_nonzero());
    if (!counts.empty()) counts_ = at::stack(counts).to(torch::kCPU);
  }

  /// Of the next tensor, in order.
  bool take(const torch::Tensor& tensor) {
    return tensor.defined() && counts_.const_data_ptr<std::int64_t>()[next_++] > 0;
  }

 private:
  torch::Tensor counts_;  // int64, of the defined ones
  std::int64_t next_ = 0;
};

}  // namespace

GradientAudit::GradientAudit(const Selection& selection) {
  for (const Target& target : selection.targets) {
    const std::string name(target.part->label);
    auto part = std::ranges::find(parts_, name, &Part::name);
    if (part == parts_.end()) part = parts_.insert(part, {.name = name, .tensors = {}});
    const nn::Adapter& adapter = *target.adapter();
    part->tensors.push_back({target.name + ".lora_A", adapter.a, adapter.b});
    part->tensors.push_back({target.name + ".lora_B", adapter.b, adapter.a});
    if (adapter.magnitude.defined())
      part->tensors.push_back({target.name + ".lora_magnitude_vector", adapter.magnitude});
    ++part->num_layers;
  }
  for (const TableTarget& target : selection.tables) {
    Part& part = parts_.emplace_back();
    part.name = target.name;
    part.num_layers = 1;
    const nn::TrainedTable& table = *target.table;
    if (table.is_low_rank()) {
      part.tensors.push_back({target.name + ".lora_A", table.a, table.b});
      part.tensors.push_back({target.name + ".lora_B", table.b, table.a});
    } else {
      part.tensors.push_back({target.name, table.tensors()[0]});
    }
  }
  if (selection.norms.empty()) return;
  Part& norms = parts_.emplace_back();
  norms.name = "decoder's norms";
  norms.num_layers = static_cast<std::int64_t>(selection.norms.size());
  for (const NormTarget& target : selection.norms) norms.tensors.push_back({target.name, target.weight});
}

bool GradientAudit::took_part(const Part& part) {
  return std::ranges::any_of(part.tensors, [](const Watched& watched) { return watched.tensor.grad().defined(); });
}

void GradientAudit::check(std::int64_t step) {
  std::vector<torch::Tensor> asked;
  for (const Part& part : parts_) {
    if (!took_part(part)) continue;
    for (const Watched& watched : part.tensors)
      if (!watched.seen)
        asked.insert(asked.end(),
                     {watched.factor.defined() ? watched.factor.detach() : torch::Tensor(), watched.tensor.grad()});
  }
  Nonzero nonzero(asked);
  for (Part& part : parts_) {
    if (!took_part(part)) continue;
    std::vector<std::string> dead;
    for (Watched& watched : part.tensors) {
      if (watched.seen) continue;
      const bool may_train = nonzero.take(watched.factor) || !watched.factor.defined();
      watched.seen = nonzero.take(watched.tensor.grad());
      if (may_train && !watched.seen) dead.push_back(watched.name);
    }
    if (dead.empty()) continue;
    std::string names;
    for (std::size_t i = 0; i < std::min(dead.size(), kNamedLayers); ++i) names += (i ? ", " : "") + dead[i];
    if (dead.size() > kNamedLayers) names += ", …";
    throw Error(ErrorKind::kDiverged, "step ", step, ": ", dead.size(), " adapter tensors of the ", part.name, " (",
                part.num_layers, " layers) got no gradient and would not train: ", names,
                "; leave these layers out with exclude_modules, or look for saturated or unused layers");
  }
}

std::vector<std::string> GradientAudit::seen() const {
  std::vector<std::string> names;
  for (const Part& part : parts_)
    for (const Watched& watched : part.tensors)
      if (watched.seen) names.push_back(watched.name);
  return names;
}

void GradientAudit::restore(const std::vector<std::string>& seen) {
  const std::set<std::string> names(seen.begin(), seen.end());
  for (Part& part : parts_)
    for (Watched& watched : part.tensors) watched.seen = names.contains(watched.name);
}

bool GradientAudit::done() const {
  return std::ranges::all_of(parts_,
                             [](const Part& part) { return std::ranges::all_of(part.tensors, &Watched::seen); });
}

}  // namespace bezel::lora
