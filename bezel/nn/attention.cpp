#include "bezel/nn/attention.h"

#include <limits>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/kernels/attention.h"
#include "bezel/kernels/matmul.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

// [B, K, S, D] -> [B, A, S, D]; a single head is repeated without a copy.
Tensor repeat_heads(const Tensor& kv, std::int64_t num_heads) {
  const std::int64_t groups = num_heads / kv.size(1);
  if (groups == 1) return kv;
  if (kv.size(1) == 1) return kv.expand({kv.size(0), num_heads, kv.size(2), kv.size(3)});
  return kv.unsqueeze(2)
      .expand({kv.size(0), kv.size(1), groups, kv.size(2), kv.size(3)})
      .reshape({kv.size(0), num_heads, kv.size(2), kv.size(3)});
}

// 0 where visible; elsewhere the lowest finite value, so that a row without keys stays finite.
Tensor additive(const Tensor& mask, torch::ScalarType dtype) {
  const double lowest = dtype == torch::kBFloat16 ? -3.3895313892515355e38 : std::numeric_limits<float>::lowest();
  return at::zeros(mask.sizes(), mask.options().dtype(dtype)).masked_fill(mask.bitwise_not(), lowest);
}

Tensor merge_heads(const Tensor& out) { return out.transpose(1, 2).flatten(2); }

// q, k, v [H, T, D], every key seen by every query.
class FullAttention : public torch::autograd::Function<FullAttention> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v) {
    const kernels::Attended attended = kernels::full_attention(q, k, v);
    context->save_for_backward({q, k, v, attended.out, attended.log_sum});
    return attended.out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    auto [dq, dk, dv] = kernels::full_attention_backward(saved[0], saved[1], saved[2], {saved[3], saved[4]}, grads[0]);
    return {dq, dk, dv};
  }
};

}  // namespace

Tensor attention_plain(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, bool causal) {
  const auto compute = kernels::widens(q.scalar_type(), q.device()) ? torch::kFloat : q.scalar_type();
  const Tensor keys = repeat_heads(k.to(compute), q.size(1));
  const Tensor values = repeat_heads(v.to(compute), q.size(1));
  Tensor scores = at::matmul(q.to(compute), keys.transpose(2, 3));  // [B, A, T, S]
  Tensor visible = mask;
  if (causal) visible = decoder_mask(q.size(2), 0, {}, {}, {}, q.device());
  if (visible.defined()) scores = scores + additive(visible, compute);
  const Tensor weights = at::softmax(scores, -1, torch::kFloat).to(compute);
  return merge_heads(at::matmul(weights, values).to(q.scalar_type()));
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, bool causal) {
  TORCH_CHECK(!causal || !mask.defined(), "attention takes a mask or `causal`, not both");
  TORCH_CHECK(q.size(1) % k.size(1) == 0, q.size(1), " heads cannot share ", k.size(1), " key/value heads");
  if (!q.is_cpu()) return attention_plain(q, k, v, mask, causal);
  if (!mask.defined() && !causal) {
    const auto rows = [](const Tensor& x) { return x.flatten(0, 1); };  // [B * A, T, D]
    if (kernels::has_full_attention(rows(q), rows(k)))
      return merge_heads(FullAttention::apply(rows(q), rows(k), rows(v)).unflatten(0, {q.size(0), q.size(1)}));
  }
  const auto compute = kernels::widens(q.scalar_type(), q.device()) ? torch::kFloat : q.scalar_type();
  std::optional<Tensor> bias;
  if (mask.defined()) bias = additive(mask, compute);
  const Tensor out = at::scaled_dot_product_attention(q.to(compute), repeat_heads(k.to(compute), q.size(1)),
                                                      repeat_heads(v.to(compute), q.size(1)), bias, /*dropout_p=*/0.0,
                                                      causal, /*scale=*/1.0);
  return merge_heads(out.to(q.scalar_type()));
}

Tensor decoder_mask(std::int64_t num_tokens, std::int64_t window, const Tensor& keys, const Tensor& picture,
                    const Tensor& queries, torch::Device device) {
  const Tensor key = at::arange(num_tokens, at::TensorOptions(at::kLong).device(device)).unsqueeze(0);  // [1, T]
  const Tensor query = (queries.defined() ? queries : key).unsqueeze(2);                                // [B, Q, 1]
  Tensor visible = key <= query;                                                                        // [B, Q, T]
  if (picture.defined()) {
    const Tensor run_q = (queries.defined() ? picture.gather(1, queries) : picture).unsqueeze(2);  // [B, Q, 1]
    const Tensor run_k = picture.unsqueeze(1);                                                     // [B, 1, T]
    visible = visible.bitwise_or((run_q == run_k).bitwise_and(run_q >= 0));
  }
  if (window > 0) visible = visible.bitwise_and(key > query - window);
  if (keys.defined()) visible = visible.bitwise_and(keys.unsqueeze(1));
  return visible.unsqueeze(1);
}

Tensor picture_runs(const Tensor& token_types) {
  const Tensor seen = (token_types == 1).bitwise_or(token_types == 2);
  const Tensor before = at::constant_pad_nd(seen.narrow(1, 0, seen.size(1) - 1), {1, 0}, 0);
  const Tensor run = seen.bitwise_and(before.bitwise_not()).to(torch::kLong).cumsum(1) - 1;
  return at::where(seen, run, at::full_like(run, -1));
}

}  // namespace bezel::nn
