#include "bezel/nn/bidirectional_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/kernels/bidirectional_attention.h"
#include "bezel/kernels/rms_norm.h"
#include "bezel/kernels/rope.h"
#include "bezel/nn/attention.h"
#include "bezel/nn/functional.h"

namespace bezel::nn {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Norms : torch::CustomClassHolder {
  explicit Norms(const BidirectionalHeads& heads) : heads(heads) {}
  BidirectionalHeads heads;
};

// The axes of an image as the heads of a rotation: [P, A, D] -> [P, A * 2, D/2].
Tensor turned(const Tensor& x, const RopeTable& by, bool back) {
  return kernels::apply_rope(x.reshape({x.size(0), -1, x.size(2) / 2}), by.cos, by.sin, back).view(x.sizes());
}

Tensor weight_of(const Tensor& weight) { return weight.to(torch::kFloat); }

class BidirectionalAttention : public torch::autograd::Function<BidirectionalAttention> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const c10::intrusive_ptr<Norms>& norms) {
    const Made made(q, k, v, norms->heads);
    const kernels::Attended attended = kernels::bidirectional_attention(made.q_turned, made.k_turned, made.v_normed.y);
    context->save_for_backward({q, k, v, attended.out, attended.log_sum});
    context->saved_data["norms"] = c10::IValue::make_capsule(norms);
    return attended.out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const auto norms = c10::static_intrusive_pointer_cast<Norms>(context->saved_data["norms"].toCapsule());
    const BidirectionalHeads& heads = norms->heads;
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const Made made(q, k, v, heads);
    auto [dq, dk, dv] = kernels::bidirectional_attention_backward(made.q_turned, made.k_turned, made.v_normed.y,
                                                                  {saved[3], saved[4]}, grads[0]);
    dq = kernels::rms_norm_backward(q, weight_of(heads.q_weight), made.q_normed.inverse,
                                    turned(dq, heads.rotation, /*back=*/true));
    dk = kernels::rms_norm_backward(k, weight_of(heads.k_weight), made.k_normed.inverse,
                                    turned(dk, heads.rotation, /*back=*/true));
    return {dq, dk, kernels::rms_norm_backward(v, {}, made.v_normed.inverse, dv), Tensor()};
  }

 private:
  // The heads as they meet.
  struct Made {
    kernels::Normed q_normed, k_normed, v_normed;
    Tensor q_turned, k_turned;

    Made(const Tensor& q, const Tensor& k, const Tensor& v, const BidirectionalHeads& heads)
        : q_normed(kernels::rms_norm(q, weight_of(heads.q_weight), {}, heads.eps)),
          k_normed(kernels::rms_norm(k, weight_of(heads.k_weight), {}, heads.eps)),
          v_normed(kernels::rms_norm(v, {}, {}, heads.eps)),
          q_turned(turned(q_normed.y, heads.rotation, /*back=*/false)),
          k_turned(turned(k_normed.y, heads.rotation, /*back=*/false)) {}
  };
};

}  // namespace

Tensor bidirectional_attention_plain(const Tensor& q, const Tensor& k, const Tensor& v,
                                     const BidirectionalHeads& heads) {
  const auto batched = [](const Tensor& x) { return x.transpose(0, 1).unsqueeze(0); };  // [1, A, P, D]
  return attention(batched(apply_axial_rope(rms_norm(q, heads.q_weight, heads.eps), heads.rotation)),
                   batched(apply_axial_rope(rms_norm(k, heads.k_weight, heads.eps), heads.rotation)),
                   batched(rms_norm(v, {}, heads.eps)))
      .squeeze(0);
}

Tensor bidirectional_attention(const Tensor& q, const Tensor& k, const Tensor& v, const BidirectionalHeads& heads) {
  if (!kernels::has_bidirectional_attention(q, k)) return bidirectional_attention_plain(q, k, v, heads);
  return BidirectionalAttention::apply(q, k, v, c10::make_intrusive<Norms>(heads)).flatten(1);
}

}  // namespace bezel::nn
