#include "bezel/train/reduction.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/io/json.h"

namespace bezel::train {
namespace {

using io::Json;
using torch::Tensor;

// JSON has no NaN.
double number(const Json& json) {
  return json.is_null() ? std::numeric_limits<double>::quiet_NaN() : json.get<double>();
}

Json to_json(const Metrics& metrics) {
  Json json = Json::object();
  for (const auto& [name, metric] : metrics) json[name] = {metric.sum, metric.weight};
  return json;
}

Metrics read_metrics(const Json& json) {
  Metrics metrics;
  for (const auto& [name, sum] : json.items()) metrics[name] = {number(sum[0]), number(sum[1])};
  return metrics;
}

std::vector<Json> gather(ProcessGroup& group, const Json& mine) {
  std::vector<Json> all;
  for (const std::string& text : group.gather(mine.dump())) all.push_back(Json::parse(text));
  return all;
}

// Element i of each list in turn, then i + 1: as the batches were dealt out.
template <typename Visit>
void visit_in_turn(const std::vector<Json>& lists, Visit visit) {
  std::size_t longest = 0;
  for (const Json& list : lists) longest = std::max(longest, list.size());
  for (std::size_t i = 0; i < longest; ++i)
    for (const Json& list : lists)
      if (i < list.size()) visit(list[i]);
}

// Which parameters have a gradient, one digit each.
std::string gradient_digits(const NamedTensors& parameters) {
  std::string digits;
  for (const auto& [name, tensor] : parameters) digits += tensor.grad().defined() ? '1' : '0';
  return digits;
}

// Sums `flat`, rounded to bfloat16, and leaves in `error` what that left out.
void sum_rounded(ProcessGroup& group, Tensor& flat, Tensor& error) {
  Tensor rounded = flat.to(torch::kBFloat16);
  // Of what is not finite there is nothing to make up for: the update is skipped.
  error = flat.sub_(rounded).nan_to_num_(0.0, 0.0, 0.0);
  group.sum_bfloat16(static_cast<std::uint16_t*>(rounded.data_ptr()), static_cast<std::size_t>(rounded.numel()),
                     error.data_ptr<float>());
  flat = rounded;
}

// One buffer of all that some rank has a gradient for.
void sum_gradients(ProcessGroup& group, const NamedTensors& parameters, const std::string& digits,
                   Residuals& residuals) {
  std::int64_t elements = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i)
    if (digits[i] == '1') elements += parameters[i].second.numel();
  Tensor flat = at::zeros({elements}, torch::kFloat);
  const auto visit = [&](auto action) {
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (digits[i] != '1') continue;
      const Tensor& parameter = parameters[i].second;
      const auto part_of = [&](const Tensor& buffer) {
        return buffer.narrow(0, begin, parameter.numel()).view(parameter.sizes());
      };
      action(i, parameter, part_of);
      begin += parameter.numel();
    }
  };
  visit([&](std::size_t i, const Tensor& parameter, auto part_of) {
    if (parameter.grad().defined()) part_of(flat).copy_(parameter.grad());
    if (!residuals.empty()) part_of(flat).add_(residuals[i].second);
  });
  Tensor error;
  if (residuals.empty())
    group.sum(flat.data_ptr<float>(), static_cast<std::size_t>(elements));
  else
    sum_rounded(group, flat, error);
  visit([&](std::size_t i, const Tensor& parameter, auto part_of) {
    if (!parameter.grad().defined()) parameter.mutable_grad() = at::empty_like(parameter);
    parameter.mutable_grad().copy_(part_of(flat));
    if (!residuals.empty()) residuals[i].second.copy_(part_of(error));
  });
}

}  // namespace

void sum_counts(ProcessGroup& group, std::initializer_list<std::int64_t*> counts) {
  if (group.size() == 1) return;
  Json mine = Json::array();
  for (std::int64_t* count : counts) mine.push_back(std::exchange(*count, 0));
  for (const Json& of_rank : gather(group, mine)) {
    std::size_t i = 0;
    for (std::int64_t* count : counts) *count += of_rank[i++].get<std::int64_t>();
  }
}

Residuals make_residuals(const NamedTensors& parameters) {
  Residuals residuals;
  for (const auto& [name, parameter] : parameters)
    residuals.emplace_back(name, at::zeros(parameter.sizes(), torch::kFloat));
  return residuals;
}

double sum_step(ProcessGroup& group, const NamedTensors& parameters, StepSums& sums, Residuals& residuals) {
  double loss = 0.0;
  if (group.size() == 1) {
    for (const double one : sums.losses) loss += one;
    return loss;
  }
  const at::NoGradGuard no_grad;
  const std::vector<Json> all = gather(
      group, {{"losses", sums.losses}, {"metrics", to_json(sums.metrics)}, {"gradients", gradient_digits(parameters)}});
  std::vector<Json> losses;
  std::string digits(parameters.size(), '0');
  sums.metrics.clear();
  for (const Json& of_rank : all) {
    losses.push_back(of_rank["losses"]);
    add_metrics(sums.metrics, read_metrics(of_rank["metrics"]));
    const std::string has = of_rank["gradients"];
    TORCH_CHECK(has.size() == digits.size(), "another rank trains ", has.size(), " tensors, this one ", digits.size());
    for (std::size_t i = 0; i < has.size(); ++i) digits[i] = std::max(digits[i], has[i]);
  }
  visit_in_turn(losses, [&](const Json& one) { loss += number(one); });
  if (std::isfinite(loss)) sum_gradients(group, parameters, digits, residuals);
  return loss;
}

std::vector<EvalBatch> gather_batches(ProcessGroup& group, const std::vector<EvalBatch>& mine) {
  if (group.size() == 1) return mine;
  Json rows = Json::array();
  for (const EvalBatch& batch : mine)
    rows.push_back({batch.weight, batch.sums.loss, batch.sums.correct ? Json(*batch.sums.correct) : Json(nullptr),
                    to_json(batch.metrics)});
  std::vector<EvalBatch> all;
  visit_in_turn(gather(group, rows), [&](const Json& row) {
    EvalBatch batch{row[0].get<std::int64_t>(), {.loss = number(row[1])}, read_metrics(row[3])};
    if (!row[2].is_null()) batch.sums.correct = row[2].get<std::int64_t>();
    all.push_back(std::move(batch));
  });
  return all;
}

double mean_of_ranks(ProcessGroup& group, double value) {
  if (group.size() == 1) return value;
  double sum = 0.0;
  for (const Json& one : gather(group, value)) sum += number(one);
  return sum / static_cast<double>(group.size());
}

}  // namespace bezel::train
