#include "bezel/train/optimizer.h"

#include <algorithm>
#include <map>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "bezel/error.h"
#include "bezel/train/adafactor.h"
#include "bezel/train/adamw.h"
#include "bezel/train/adamw_8bit.h"
#include "bezel/train/lion.h"
#include "bezel/train/muon.h"

namespace bezel::train {

using torch::Tensor;

namespace {

/// The rules of a run. Parameters that its own does not suit take AdamW: few elements whose moments do not justify
/// codes, and what is no matrix A or B. All parameters are on one device.
class Rules {
 public:
  explicit Rules(const OptimizerSettings& settings) : settings_(settings) {}

  const std::shared_ptr<const UpdateRule>& of(const std::string& name, const Tensor& parameter) {
    const bool is_own = settings_.kind == OptimizerKind::kAdamW8bit ? takes_eight_bits(parameter, settings_)
                        : settings_.kind == OptimizerKind::kMuon    ? takes_muon(name, parameter)
                                                                    : true;
    auto& rule = rules_[is_own ? settings_.kind : OptimizerKind::kAdamW];
    if (!rule) rule = make(is_own ? settings_.kind : OptimizerKind::kAdamW, parameter.device());
    return rule;
  }

 private:
  std::shared_ptr<const UpdateRule> make(OptimizerKind kind, torch::Device device) const {
    switch (kind) {
      case OptimizerKind::kAdamW8bit:
        return std::make_shared<AdamW8bit>(settings_, device);
      case OptimizerKind::kAdafactor:
        return std::make_shared<Adafactor>(settings_);
      case OptimizerKind::kLion:
        return std::make_shared<Lion>(settings_);
      case OptimizerKind::kMuon:
        return std::make_shared<Muon>(settings_);
      case OptimizerKind::kAdamW:
        break;
    }
    return std::make_shared<AdamW>(settings_);
  }

  const OptimizerSettings& settings_;
  std::map<OptimizerKind, std::shared_ptr<const UpdateRule>> rules_;
};

bool is_in(const RateGroup& group, const std::string& name) {
  return std::ranges::any_of(group.modules,
                             [&](const std::string& part) { return name.find(part) != std::string::npos; });
}

void check_groups(const std::vector<RateGroup>& groups, const NamedTensors& parameters) {
  for (const RateGroup& group : groups)
    if (std::ranges::none_of(parameters, [&](const auto& item) { return is_in(group, item.first); }))
      throw Error(ErrorKind::kConfig, "lr_groups: no adapted module's name contains what modules of '", group.name,
                  "' lists; names are such as ", parameters.empty() ? "" : parameters.front().first);
}

// Of the group, times LoRA+'s.
double rate_ratio(const OptimizerSettings& settings, const std::string& name, const Tensor& parameter) {
  const auto found = std::ranges::find_if(settings.groups, [&](const RateGroup& group) { return is_in(group, name); });
  const double of_group = found == settings.groups.end() ? 1.0 : found->learning_rate / settings.learning_rate;
  return of_group * rate_factor(settings.loraplus, name, parameter.dim());
}

}  // namespace

Optimizer::Optimizer(NamedTensors parameters, const OptimizerSettings& settings) : parameters_(std::move(parameters)) {
  check_groups(settings.groups, parameters_);
  Rules rules(settings);
  for (const auto& [name, tensor] : parameters_)
    members_.push_back({.rule = rules.of(name, tensor),
                        .rate_ratio = rate_ratio(settings, name, tensor),
                        .weight_decay = decays(name) ? settings.weight_decay : 0.0});
}

double Optimizer::gradient_norm() const {
  const std::vector<Tensor> all = gradients();
  if (all.empty()) return 0.0;
  if (!all[0].is_cpu()) return at::norm(at::stack(at::_foreach_norm(all))).item<double>();
  std::vector<Tensor> norms;
  for (const Tensor& gradient : all) norms.push_back(at::norm(gradient));
  return at::norm(at::stack(norms)).item<double>();
}

void Optimizer::clip(double norm, double max_norm) {
  const double factor = max_norm / (norm + 1e-6);
  if (!(factor < 1.0)) return;
  const std::vector<Tensor> all = gradients();
  if (!all.empty() && !all[0].is_cpu()) return at::_foreach_mul_(all, factor);
  for (const Tensor& gradient : all) gradient.mul_(factor);
}

std::vector<Tensor> Optimizer::gradients() const {
  std::vector<Tensor> all;
  for (const auto& [name, tensor] : parameters_)
    if (tensor.grad().defined()) all.push_back(tensor.grad());
  return all;
}

void Optimizer::step(double learning_rate) {
  if (!std::ranges::all_of(parameters_, [](const auto& item) { return item.second.is_cpu(); }))
    return step_on_device(learning_rate);
  // One parallel region over the parameters: each is small, and every operator on one would start a region of its own.
  const auto count = static_cast<std::int64_t>(members_.size());
  at::parallel_for(0, count, 1, [&](std::int64_t begin, std::int64_t end) {
    const at::NoGradGuard no_grad;  // of this thread
    for (std::int64_t i = begin; i < end; ++i)
      if (parameters_[static_cast<std::size_t>(i)].second.grad().defined())
        members_[static_cast<std::size_t>(i)].rule->apply(next_update(static_cast<std::size_t>(i), learning_rate));
  });
}

void Optimizer::step_on_device(double learning_rate) {
  const at::NoGradGuard no_grad;
  std::map<const UpdateRule*, std::vector<Update>> by_rule;
  for (std::size_t i = 0; i < members_.size(); ++i)
    if (parameters_[i].second.grad().defined())
      by_rule[members_[i].rule.get()].push_back(next_update(i, learning_rate));
  for (auto& [rule, updates] : by_rule) rule->apply_all(updates);
}

Update Optimizer::next_update(std::size_t idx, double learning_rate) {
  const Tensor& parameter = parameters_[idx].second;
  Member& member = members_[idx];
  if (member.steps == 0)
    for (const Slot& slot : member.rule->slots(parameter))
      member.state.push_back(at::zeros(slot.shape, parameter.options().dtype(slot.dtype).requires_grad(false)));
  return {.parameter = parameter,
          .gradient = parameter.grad(),
          .state = member.state,
          .step = ++member.steps,
          .learning_rate = learning_rate * member.rate_ratio,
          .weight_decay = member.weight_decay};
}

void Optimizer::clear_gradients() {
  for (auto& [name, tensor] : parameters_) tensor.mutable_grad().reset();
}

NamedTensors Optimizer::state() const {
  NamedTensors all;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, tensor] = parameters_[i];
    const Member& member = members_[i];
    if (member.steps == 0) continue;
    const std::vector<Slot> slots = member.rule->slots(tensor);
    for (std::size_t k = 0; k < slots.size(); ++k)
      all.emplace_back(std::string(slots[k].name) + "." + name, member.state[k]);
    all.emplace_back("step." + name, at::scalar_tensor(member.steps, torch::kLong));
  }
  return all;
}

void Optimizer::load_state(StateFile& file) {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, tensor] = parameters_[i];
    Member& member = members_[i];
    member.state.clear();
    member.steps = 0;
    if (!file.has("step." + name)) continue;
    member.steps = file.take("step." + name, {}, torch::kLong, torch::kCPU).item<std::int64_t>();
    for (const Slot& slot : member.rule->slots(tensor))
      member.state.push_back(file.take(std::string(slot.name) + "." + name, slot.shape, slot.dtype, tensor.device()));
  }
}

}  // namespace bezel::train
