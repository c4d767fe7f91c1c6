#include "bezel/train/loss.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/kernels/cross_entropy.h"

namespace bezel::train {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class CrossEntropy : public torch::autograd::Function<CrossEntropy> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& hidden, const Tensor& labels, const quant::Weight* head,
                        double softcap, bool needs_graph) {
    const std::int64_t rows = hidden.size(0);
    const std::int64_t step =
        std::clamp<std::int64_t>(kLogitsAtATime / head->shape()[0], 1, std::max<std::int64_t>(rows, 1));
    Tensor loss = at::zeros({}, hidden.options().dtype(torch::kFloat));
    Tensor dh = needs_graph ? at::empty_like(hidden) : Tensor();
    for (std::int64_t begin = 0; begin < rows; begin += step) {
      const std::int64_t count = std::min(step, rows - begin);
      Tensor logits = head->matmul(hidden.narrow(0, begin, count));  // [count, V]
      loss += kernels::cross_entropy(logits, labels.narrow(0, begin, count), softcap, needs_graph);
      if (needs_graph) dh.narrow(0, begin, count).copy_(head->matmul_transposed(logits));
    }
    context->save_for_backward({dh});
    return loss;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const Tensor dh = context->get_saved_variables()[0];
    return {dh * grads[0].to(dh.scalar_type()), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor cross_entropy_sum(const Tensor& hidden, const quant::Weight& head, const Tensor& labels, double softcap) {
  TORCH_CHECK(hidden.dim() == 2 && labels.dim() == 1 && hidden.size(0) == labels.size(0),
              "expected hidden [L, H] and labels [L], got ", hidden.sizes(), " and ", labels.sizes());
  const bool needs_graph = torch::GradMode::is_enabled() && hidden.requires_grad();
  return CrossEntropy::apply(hidden, labels, &head, softcap, needs_graph);
}

}  // namespace bezel::train
