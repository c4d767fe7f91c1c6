#include "bezel/train/loss.h"

#include <algorithm>
#include <tuple>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/kernels/cross_entropy.h"
#include "bezel/nn/random_keys.h"

namespace bezel::train {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What a call does with the head.
struct HeadCall : torch::CustomClassHolder {
  const quant::Weight* head = nullptr;
  double softcap = 0.0, smoothing = 0.0;
  bool needs_graph = false;
  const nn::TrainedTable* trained = nullptr;  // what of the head gets gradients; null: nothing
  Tensor keep;                                // dropout before A: bool [L, H]; undefined without

  // Of logits [count, V], which it overwrites.
  Tensor loss(Tensor& logits, const Tensor& labels, bool gradient) const {
    return smoothing == 0.0 ? kernels::cross_entropy(logits, labels, softcap, gradient)
                            : kernels::smoothed_cross_entropy(logits, labels, softcap, smoothing, gradient);
  }

  // Rows whose logits are made at a time. Smoothing takes copies of the logits in float32.
  std::int64_t step(std::int64_t rows) const {
    const std::int64_t elements = smoothing == 0.0 ? kLogitsAtATime : kLogitsAtATime / 8;
    return std::clamp<std::int64_t>(elements / head->shape()[0], 1, std::max<std::int64_t>(rows, 1));
  }
};

class CrossEntropy : public torch::autograd::Function<CrossEntropy> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& hidden, const Tensor& labels, at::TensorList trained,
                        const c10::intrusive_ptr<HeadCall>& call) {
    const std::int64_t rows = hidden.size(0), step = call->step(rows);
    Tensor loss = at::zeros({}, hidden.options().dtype(torch::kFloat));
    Tensor dh = call->needs_graph ? at::empty_like(hidden) : Tensor();
    variable_list sums;  // gradients of what is trained
    if (call->needs_graph && call->trained != nullptr)
      for (const Tensor& tensor : trained) sums.push_back(at::zeros_like(tensor));
    for (std::int64_t begin = 0; begin < rows; begin += step) {
      const std::int64_t count = std::min(step, rows - begin);
      const Tensor h = hidden.narrow(0, begin, count);
      const Tensor keep = call->keep.defined() ? call->keep.narrow(0, begin, count) : Tensor();
      Tensor logits = product(*call, h, keep);  // [count, V]
      loss += call->loss(logits, labels.narrow(0, begin, count), call->needs_graph);
      if (!call->needs_graph) continue;
      dh.narrow(0, begin, count).copy_(product_transposed(*call, logits, keep));
      if (!sums.empty()) nn::add_head_gradients(*call->trained, h, dropped(*call, h, keep), logits, sums);
    }
    sums.insert(sums.begin(), dh);
    context->save_for_backward(std::move(sums));
    return loss;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const Tensor& dh = saved[0];
    variable_list result = {dh * grads[0].to(dh.scalar_type()), Tensor()};
    for (std::size_t i = 1; i < saved.size(); ++i) result.push_back(saved[i] * grads[0]);
    result.emplace_back();  // the call
    return result;
  }

 private:
  // What enters A.
  static Tensor dropped(const HeadCall& call, const Tensor& h, const Tensor& keep) {
    return keep.defined() ? (h * keep).div_(1.0 - call.trained->dropout) : h;
  }

  // What dropout changes of the update: scale * (what is dropped) A^T B^T.
  static Tensor product(const HeadCall& call, const Tensor& h, const Tensor& keep) {
    Tensor logits = call.head->matmul(h);
    if (!keep.defined()) return logits;
    const nn::TrainedTable& table = *call.trained;
    const Tensor change = (dropped(call, h, keep) - h).to(torch::kFloat).mm(table.a.t()).mul_(table.scale);
    return (change.mm(table.b.t()) + logits).to(logits.scalar_type());
  }

  static Tensor product_transposed(const HeadCall& call, const Tensor& d_logits, const Tensor& keep) {
    Tensor dh = call.head->matmul_transposed(d_logits);
    if (!keep.defined()) return dh;
    const nn::TrainedTable& table = *call.trained;
    const Tensor update = d_logits.to(torch::kFloat).mm(table.b).mul_(table.scale).mm(table.a);  // before the dropout
    return (update * keep).div_(1.0 - table.dropout).sub_(update).add_(dh).to(dh.scalar_type());
  }
};

void check_shapes(const Tensor& hidden, const Tensor& labels) {
  TORCH_CHECK(hidden.dim() == 2 && labels.dim() == 1 && hidden.size(0) == labels.size(0),
              "expected hidden [L, H] and labels [L], got ", hidden.sizes(), " and ", labels.sizes());
}

}  // namespace

Tensor cross_entropy_sum(const Tensor& hidden, const quant::Weight& head, const Tensor& labels, double softcap,
                         const nn::TrainedTable* trained, bool is_training, double smoothing) {
  check_shapes(hidden, labels);
  auto call = c10::make_intrusive<HeadCall>();
  call->head = &head;
  call->softcap = softcap;
  call->smoothing = smoothing;
  call->needs_graph = torch::GradMode::is_enabled() && (hidden.requires_grad() || trained != nullptr);
  std::vector<Tensor> tensors;
  if (trained != nullptr) {
    call->trained = trained;
    tensors = trained->tensors();
    if (is_training && trained->is_low_rank() && trained->dropout > 0)
      call->keep =
          nn::dropout_mask(nn::site_key("lm_head"), hidden.size(0), hidden.size(1), trained->dropout, hidden.device());
  }
  return CrossEntropy::apply(hidden, labels, at::TensorList(tensors), call);
}

LabelSums label_sums(const Tensor& hidden, const quant::Weight& head, const Tensor& labels, double softcap,
                     double smoothing) {
  check_shapes(hidden, labels);
  const at::NoGradGuard no_grad;
  HeadCall call;
  call.head = &head;
  call.softcap = softcap;
  call.smoothing = smoothing;
  Tensor loss = at::zeros({}, hidden.options().dtype(torch::kFloat));
  LabelSums sums;
  const std::int64_t rows = hidden.size(0), step = call.step(rows);
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    const std::int64_t count = std::min(step, rows - begin);
    const Tensor some = labels.narrow(0, begin, count);
    Tensor logits = head.matmul(hidden.narrow(0, begin, count));  // [count, V]
    // max() is four times as fast as argmax(), and of equal logits takes the first as well.
    sums.correct += std::get<1>(logits.max(1)).eq(some).sum().item<std::int64_t>();
    loss += call.loss(logits, some, false);
  }
  sums.loss = loss.item<double>();
  return sums;
}

}  // namespace bezel::train
