#include "bezel/nn/weight_site.h"

#include "bezel/nn/rms_norm.h"

namespace bezel::nn {

void for_each_module(const torch::nn::Module& root, const std::function<void(const std::string&, Module&)>& visit) {
  for (const auto& item : root.named_modules("", /*include_self=*/false))
    if (auto* module = dynamic_cast<Module*>(item.value().get())) visit(item.key(), *module);
}

std::optional<Adapter>* WeightSite::adapter() const {
  if (mixture != nullptr) return &mixture->stack(slot->name)->adapter;
  return layer != nullptr ? &layer->adapter : nullptr;
}

std::vector<WeightSite> weight_sites(const torch::nn::Module& root) {
  std::vector<WeightSite> sites;
  for_each_module(root, [&sites](const std::string& name, Module& module) {
    auto* layer = dynamic_cast<LinearImpl*>(&module);
    auto* mixture = dynamic_cast<StackedExperts*>(&module);
    for (const Slot& slot : module.slots())
      if (slot.kind == SlotKind::kMatrix) sites.push_back({name, &slot, layer, mixture});
  });
  return sites;
}

std::vector<WeightSite> linear_sites(const torch::nn::Module& root) {
  std::vector<WeightSite> sites = weight_sites(root);
  std::erase_if(sites, [](const WeightSite& site) { return site.role() != MatrixRole::kLinear; });
  return sites;
}

std::string_view refusal_of(MatrixRole role) {
  switch (role) {
    case MatrixRole::kLinear:
      break;
    case MatrixRole::kHead:
      return "is the output embedding";
    case MatrixRole::kEmbedding:
      return "is an embedding table";
    case MatrixRole::kExperts:
      return "is a stack of experts";
  }
  return "";
}

std::vector<torch::Tensor> adapter_tensors(const torch::nn::Module& module) {
  std::vector<torch::Tensor> tensors;
  for (const WeightSite& site : weight_sites(module))
    if (const auto* adapter = site.adapter(); adapter != nullptr && *adapter)
      for (const torch::Tensor& tensor : (*adapter)->tensors()) tensors.push_back(tensor);
  for_each_module(module, [&tensors](const std::string&, Module& below) {
    if (const auto* norm = dynamic_cast<const RmsNormImpl*>(&below); norm != nullptr && norm->trained.defined())
      tensors.push_back(norm->trained);
  });
  return tensors;
}

std::vector<std::shared_ptr<const quant::Weight>> linear_weights(const torch::nn::Module& module) {
  std::vector<std::shared_ptr<const quant::Weight>> weights;
  for (const WeightSite& site : weight_sites(module))
    if (site.layer != nullptr && site.weight()) weights.push_back(site.weight());
  return weights;
}

}  // namespace bezel::nn
