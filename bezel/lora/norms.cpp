#include "bezel/lora/norms.h"

#include <algorithm>

#include "bezel/lora/match.h"

namespace bezel::lora {
namespace {

constexpr std::string_view kDecoder = "model.language_model.";

}  // namespace

bool NormTarget::is_of_decoder() const { return name.starts_with(kDecoder); }

std::int64_t NormTarget::parameters() const { return norm->slots().front().shape[0]; }

std::vector<NormTarget> norms_of(const torch::nn::Module& model) {
  std::vector<NormTarget> norms;
  for (const auto& item : model.named_modules("", /*include_self=*/false))
    if (auto norm = std::dynamic_pointer_cast<nn::RmsNormImpl>(item.value()))
      norms.push_back({.name = item.key(), .norm = std::move(norm)});
  return norms;
}

bool is_norm_called(const std::string& norm, const std::string& asked) {
  return !asked.empty() &&
         std::ranges::any_of(all_spellings(norm), [&](const std::string& name) { return name.ends_with(asked); });
}

std::vector<NormTarget> select_norms(const torch::nn::Module& model, const std::vector<std::string>& modules_to_save) {
  std::vector<NormTarget> norms = norms_of(model);
  std::erase_if(norms, [&](const NormTarget& target) {
    return !target.is_of_decoder() || std::ranges::none_of(modules_to_save, [&](const std::string& asked) {
      return is_norm_called(target.name, asked);
    });
  });
  return norms;
}

void attach_norms(std::vector<NormTarget>& norms) {
  for (NormTarget& target : norms) {
    target.weight = target.norm->stored.clone().requires_grad_();
    target.put();
  }
}

std::vector<NormTarget> attached_norms(const torch::nn::Module& model) {
  std::vector<NormTarget> norms = norms_of(model);
  std::erase_if(norms, [](const NormTarget& target) { return !target.norm->trained.defined(); });
  for (NormTarget& target : norms) target.weight = target.norm->trained;
  return norms;
}

}  // namespace bezel::lora
