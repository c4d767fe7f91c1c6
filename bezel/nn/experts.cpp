#include "bezel/nn/experts.h"

#include <utility>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/kernels/geglu.h"
#include "bezel/nn/expert_load.h"
#include "bezel/nn/grouped_product.h"

namespace bezel::nn {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What of a call is no tensor of the graph.
struct ExpertsCall : torch::CustomClassHolder {
  ExpertsCall(RowGroups given, GroupedProduct first, GroupedProduct second)
      : rows(std::move(given)), gate_up(std::move(first)), down(std::move(second)) {}

  RowGroups rows;
  GroupedProduct gate_up, down;

  variable_list of_gate_up(const variable_list& adapters) const {
    return {adapters.begin(), adapters.begin() + static_cast<std::ptrdiff_t>(gate_up.num_tensors())};
  }
  variable_list of_down(const variable_list& adapters) const {
    return {adapters.end() - static_cast<std::ptrdiff_t>(down.num_tensors()), adapters.end()};
  }
  Tensor gather(const Tensor& x) const { return x.index_select(0, rows.source); }
};

// What the backward pass needs, and its order in the list that autograd keeps.
struct SavedExperts {
  Tensor x;         // [N, H]; undefined where gate_up has no adapter
  Tensor weight;    // [N, K]
  Tensor gate, up;  // [S, F]
  Tensor h_first, h_second;
  variable_list adapters;

  variable_list pack() && {
    variable_list list{x, weight, gate, up, h_first, h_second};
    list.insert(list.end(), adapters.begin(), adapters.end());
    return list;
  }
  static SavedExperts unpack(const variable_list& list) {
    return {list[0], list[1], list[2], list[3], list[4], list[5], {list.begin() + 6, list.end()}};
  }
};

class ExpertsFunction : public torch::autograd::Function<ExpertsFunction> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, at::TensorList given,
                        const c10::intrusive_ptr<ExpertsCall>& call) {
    const variable_list adapters = given.vec();
    const RowGroups& groups = call->rows;
    auto [both, h_first] = call->gate_up.forward(call->gather(x), groups, call->of_gate_up(adapters));
    const std::int64_t width = both.size(1) / 2;
    SavedExperts saved{.x = call->gate_up.is_adapted() ? x : Tensor(),
                       .weight = weight,
                       .gate = both.narrow(1, 0, width).contiguous(),
                       .up = both.narrow(1, width, width).contiguous(),
                       .h_first = h_first,
                       .h_second = {},
                       .adapters = adapters};
    both = Tensor();
    const auto [z, h_second] =
        call->down.forward(kernels::geglu(saved.gate, saved.up), groups, call->of_down(adapters));
    saved.h_second = h_second;
    context->save_for_backward(std::move(saved).pack());
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    return sum_of_experts(z, call->rows.place, weight, x.size(0));
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto call = c10::static_intrusive_pointer_cast<ExpertsCall>(context->saved_data["call"].toCapsule());
    const SavedExperts saved = SavedExperts::unpack(context->get_saved_variables());
    const bool wants_x = context->needs_input_grad(0), wants_weight = context->needs_input_grad(1);
    const RowGroups& groups = call->rows;
    const Tensor factor = saved.weight.flatten().index_select(0, call->rows.slot).unsqueeze(1);  // [S, 1]
    const auto times_weight = [&](const Tensor& t) { return t.defined() ? t.mul(factor).to(t.scalar_type()) : t; };

    // Of the down projection, before the weight: x and h carry it instead, so that one product serves both gradients.
    const Tensor act = kernels::geglu(saved.gate, saved.up), dz = call->gather(grads[0].contiguous());
    const bool adapts_down = call->down.is_adapted(), adapts_first = call->gate_up.is_adapted();
    const auto second =
        call->down.backward(dz, adapts_down ? times_weight(act) : Tensor(), times_weight(saved.h_second), groups,
                            call->of_down(saved.adapters), wants_x || wants_weight || adapts_first);
    variable_list result(2);
    if (wants_weight)
      result[1] = act.to(torch::kFloat)
                      .mul_(second.x)
                      .sum(1)
                      .index_select(0, call->rows.place)
                      .view(saved.weight.sizes())
                      .to(saved.weight.scalar_type());
    GroupedProduct::Gradients first;
    if (wants_x || adapts_first) {
      const auto [d_gate, d_up] = kernels::geglu_backward(saved.gate, saved.up, times_weight(second.x));
      first = call->gate_up.backward(at::cat({d_gate, d_up}, 1), adapts_first ? call->gather(saved.x) : Tensor(),
                                     saved.h_first, groups, call->of_gate_up(saved.adapters), wants_x);
    }
    if (wants_x) result[0] = sum_of_experts(first.x, call->rows.place, {}, grads[0].size(0));
    result.insert(result.end(), first.tensors.begin(), first.tensors.end());
    result.insert(result.end(), second.tensors.begin(), second.tensors.end());
    result.emplace_back();  // the call
    return result;
  }
};

}  // namespace

StackedExperts::StackedExperts(std::int64_t num_experts, std::int64_t hidden_size, std::int64_t intermediate_size)
    : num_experts_(num_experts) {
  const auto role = MatrixRole::kExperts;
  expect("gate_up_proj", {num_experts, 2 * intermediate_size, hidden_size}, gate_up_proj.weight, role, true);
  expect("down_proj", {num_experts, hidden_size, intermediate_size}, down_proj.weight, role, true);
}

Tensor StackedExperts::forward(const Tensor& x, const Tensor& chosen, const Tensor& weight) {
  RowGroups rows = group_rows(chosen, num_experts_);
  if (ExpertCounting* counting = ExpertCounting::current()) counting->add(this, num_experts_, rows);
  variable_list adapters;
  const auto product = [&](const ExpertStack& stack) {
    const Adapter* adapter = stack.adapter ? &*stack.adapter : nullptr;
    LowRankTerms::append_tensors(adapter, adapters);
    return GroupedProduct(stack.weight, adapter);
  };
  GroupedProduct first = product(gate_up_proj), second = product(down_proj);
  const auto call = c10::make_intrusive<ExpertsCall>(std::move(rows), std::move(first), std::move(second));
  return ExpertsFunction::apply(x, weight, at::TensorList(adapters), call);
}

ExpertStack* StackedExperts::stack(std::string_view name) {
  if (name == "gate_up_proj") return &gate_up_proj;
  return name == "down_proj" ? &down_proj : nullptr;
}

}  // namespace bezel::nn
