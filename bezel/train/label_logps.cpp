#include "bezel/train/label_logps.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/kernels/cross_entropy.h"
#include "bezel/train/loss.h"

namespace bezel::train {
namespace {

class LabelLogps : public torch::autograd::Function<LabelLogps> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& hidden,
                               const torch::Tensor& labels, const quant::Weight* head, double softcap,
                               bool needs_graph) {
    const std::int64_t rows = hidden.size(0);
    const std::int64_t step =
        std::clamp<std::int64_t>(kLogitsAtATime / head->shape()[0], 1, std::max<std::int64_t>(rows, 1));
    torch::Tensor logps = at::empty({rows}, hidden.options().dtype(torch::kFloat));
    torch::Tensor dh = needs_graph ? at::empty_like(hidden) : torch::Tensor();
    for (std::int64_t begin = 0; begin < rows; begin += step) {
      const std::int64_t count = std::min(step, rows - begin);
      torch::Tensor logits = head->matmul(hidden.narrow(0, begin, count));  // [count, V]
      logps.narrow(0, begin, count)
          .copy_(kernels::cross_entropy_rows(logits, labels.narrow(0, begin, count), softcap, needs_graph).neg());
      // Of the row's cross-entropy; backward() turns the sign.
      if (needs_graph) dh.narrow(0, begin, count).copy_(head->matmul_transposed(logits));
    }
    context->save_for_backward({dh});
    return logps;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const torch::Tensor dh = context->get_saved_variables()[0];
    const torch::Tensor scale = grads[0].neg().unsqueeze(1);  // [L, 1]
    return {(dh.to(torch::kFloat) * scale).to(dh.scalar_type()), torch::Tensor(), torch::Tensor(), torch::Tensor(),
            torch::Tensor()};
  }
};

}  // namespace

torch::Tensor label_logps(const torch::Tensor& hidden, const quant::Weight& head, const torch::Tensor& labels,
                          double softcap) {
  TORCH_CHECK(hidden.dim() == 2 && labels.dim() == 1 && hidden.size(0) == labels.size(0),
              "expected hidden [L, H] and labels [L], got ", hidden.sizes(), " and ", labels.sizes());
  const bool needs_graph = torch::GradMode::is_enabled() && hidden.requires_grad();
  return LabelLogps::apply(hidden, labels, &head, softcap, needs_graph);
}

}  // namespace bezel::train
