#include "bezel/nn/recompute.h"

#include <algorithm>

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/nn/narrow_factors.h"
#include "bezel/nn/random_keys.h"

namespace bezel::nn {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Body : torch::CustomClassHolder {
  std::function<variable_list(const variable_list&)> run;
  variable_list parameters;
  RandomKeys random;
  std::shared_ptr<const NarrowFactors> narrow;
};

class Recompute : public torch::autograd::Function<Recompute> {
 public:
  static variable_list forward(AutogradContext* context, at::TensorList given, at::TensorList parameters,
                               const c10::intrusive_ptr<Body>& body) {
    const variable_list inputs = given.vec();
    body->parameters = parameters.vec();
    body->random = RandomKeys::current();
    body->narrow = NarrowFactors::current();
    context->save_for_backward(inputs);
    context->saved_data["body"] = c10::IValue::make_capsule(body);
    context->set_materialize_grads(false);
    return body->run(inputs);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto body = c10::static_intrusive_pointer_cast<Body>(context->saved_data["body"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    variable_list inputs, wanted, outputs, output_grads;
    for (std::size_t i = 0; i < saved.size(); ++i) {
      inputs.push_back(saved[i].detach());
      if (!context->needs_input_grad(i)) continue;
      inputs.back().set_requires_grad(true);
      wanted.push_back(inputs.back());
    }
    wanted.insert(wanted.end(), body->parameters.begin(), body->parameters.end());
    {
      const ScopedRandomKeys random(body->random);
      const ScopedNarrowFactors narrow(body->narrow);
      const at::AutoGradMode with_graph(true);
      const variable_list again = body->run(inputs);
      for (std::size_t i = 0; i < again.size(); ++i) {
        if (!grads[i].defined() || !again[i].requires_grad()) continue;
        outputs.push_back(again[i]);
        output_grads.push_back(grads[i]);
      }
    }
    const variable_list found =
        torch::autograd::grad(outputs, wanted, output_grads, /*retain_graph=*/false, /*create_graph=*/false,
                              /*allow_unused=*/true);
    variable_list result;
    auto next = found.begin();
    for (std::size_t i = 0; i < saved.size(); ++i) result.push_back(context->needs_input_grad(i) ? *next++ : Tensor());
    result.insert(result.end(), next, found.end());
    result.emplace_back();  // the body
    return result;
  }
};

}  // namespace

std::vector<Tensor> recompute(const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& body,
                              const std::vector<Tensor>& inputs, const std::vector<Tensor>& parameters) {
  const auto needs = [](const Tensor& tensor) { return tensor.requires_grad(); };
  const bool graph =
      torch::GradMode::is_enabled() && (std::ranges::any_of(inputs, needs) || std::ranges::any_of(parameters, needs));
  if (!graph) return body(inputs);
  auto holder = c10::make_intrusive<Body>();
  holder->run = body;
  // As lists, not vectors: Function finds the tensors of a list.
  return Recompute::apply(at::TensorList(inputs), at::TensorList(parameters), holder);
}

}  // namespace bezel::nn
