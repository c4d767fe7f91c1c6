#include "bezel/lora/audit.h"

#include <algorithm>
#include <set>

#include <ATen/ATen.h>

#include "bezel/error.h"

namespace bezel::lora {
namespace {

constexpr std::size_t kNamedLayers = 8;

bool has_nonzero(const torch::Tensor& tensor) {
  return tensor.defined() && tensor.count_nonzero().item<std::int64_t>() > 0;
}

}  // namespace

GradientAudit::GradientAudit(const Selection& selection) {
  for (const Target& target : selection.targets) {
    const std::string name(target.part->label);
    auto part = std::ranges::find(parts_, name, &Part::name);
    if (part == parts_.end()) part = parts_.insert(part, {name, {}});
    part->layers.push_back({.target = target});
  }
}

bool GradientAudit::took_part(const Part& part) {
  return std::ranges::any_of(part.layers, [](const Watched& watched) {
    const nn::Adapter& adapter = *watched.target.layer->adapter;
    return adapter.b.grad().defined() || adapter.a.grad().defined();
  });
}

void GradientAudit::check(std::int64_t step) {
  for (Part& part : parts_) {
    if (!took_part(part)) continue;
    std::vector<std::string> dead;
    for (Watched& watched : part.layers) {
      const nn::Adapter& adapter = *watched.target.layer->adapter;
      if (!watched.b_seen && !(watched.b_seen = has_nonzero(adapter.b.grad())))
        dead.push_back(watched.target.name + ".lora_B");
      if (watched.a_seen || !has_nonzero(adapter.b.detach())) continue;
      if (!(watched.a_seen = has_nonzero(adapter.a.grad()))) dead.push_back(watched.target.name + ".lora_A");
    }
    if (dead.empty()) continue;
    std::string names;
    for (std::size_t i = 0; i < std::min(dead.size(), kNamedLayers); ++i) names += (i ? ", " : "") + dead[i];
    if (dead.size() > kNamedLayers) names += ", …";
    throw Error(ErrorKind::kDiverged, "step ", step, ": ", dead.size(), " adapter tensors of the ", part.name, " (",
                part.layers.size(), " layers) got no gradient and would not train: ", names,
                "; leave these layers out with exclude_modules, or look for saturated or unused layers");
  }
}

std::vector<std::string> GradientAudit::seen() const {
  std::vector<std::string> names;
  for (const Part& part : parts_) {
    for (const Watched& watched : part.layers) {
      if (watched.a_seen) names.push_back(watched.target.name + ".lora_A");
      if (watched.b_seen) names.push_back(watched.target.name + ".lora_B");
    }
  }
  return names;
}

void GradientAudit::restore(const std::vector<std::string>& seen) {
  const std::set<std::string> names(seen.begin(), seen.end());
  for (Part& part : parts_) {
    for (Watched& watched : part.layers) {
      watched.a_seen = names.contains(watched.target.name + ".lora_A");
      watched.b_seen = names.contains(watched.target.name + ".lora_B");
    }
  }
}

bool GradientAudit::done() const {
  return std::ranges::all_of(parts_, [](const Part& part) {
    return std::ranges::all_of(part.layers, [](const Watched& watched) { return watched.a_seen && watched.b_seen; });
  });
}

}  // namespace bezel::lora
