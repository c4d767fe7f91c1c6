#include "bezel/nn/attention.h"

#include <limits>
#include <optional>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/matmul.h"
#include "bezel/kernels/one_query_attention.h"
#include "bezel/kernels/ranged_attention.h"
#include "bezel/nn/blocked_attention.h"

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

// [B or 1, 1, Q, S]: 0 where the key is seen; elsewhere the lowest finite value, so that a row without keys stays
// finite. Undefined where every key is seen.
Tensor additive(const KeyRanges& mask, const Tensor& q, const Tensor& k, torch::ScalarType dtype) {
  const Tensor dense = dense_mask(mask, q.size(2), k.size(2), q.device());
  if (!dense.defined()) return {};
  const double lowest = dtype == torch::kBFloat16 ? -3.3895313892515355e38 : std::numeric_limits<float>::lowest();
  return at::zeros(dense.sizes(), dense.options().dtype(dtype)).masked_fill(dense.bitwise_not(), lowest).unsqueeze(1);
}

// What `make` makes, once for all layers that read the same ranges.
template <typename Make>
Tensor kept(const KeyRanges& mask, Tensor KeyRanges::Made::*member, const Make& make) {
  if (!mask.made) return make();
  Tensor& tensor = (*mask.made).*member;
  if (!tensor.defined()) tensor = make();
  return tensor;
}

// Gives rows of queries without keys no gradient through `out` [B, A, Q, D]. The softmax of such a row is uniform here,
// and ATen's fused backward pass does not divide its weights by their sum.
Tensor without_keyless_gradients(const Tensor& out, const KeyRanges& mask) {
  if (!mask.end.defined() || mask.causal || !mask.may_lack_keys || !out.requires_grad()) return out;
  const Tensor keyless = kept(mask, &KeyRanges::Made::keyless, [&] {
    return (mask.end <= mask.first).unsqueeze(1).unsqueeze(3);  // [B or 1, 1, Q, 1]
  });
  out.register_hook([keyless](const Tensor& gradient) { return gradient.masked_fill(keyless, 0); });
  return out;
}

Tensor merge_heads(const Tensor& out) { return out.transpose(1, 2).flatten(2); }

// The tensors of RangedAttention but for the keys' and values' own: q [H, Q * group, D], k and v [H, S, D].
class RangedFunction : public torch::autograd::Function<RangedFunction> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& first, const Tensor& end) {
    const kernels::Attended attended = kernels::ranged_attention({q, k, v, first, end});
    context->save_for_backward({q, k, v, first, end, attended.out, attended.log_sum});
    return attended.out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    auto [dq, dk, dv] = kernels::ranged_attention_backward({saved[0], saved[1], saved[2], saved[3], saved[4]},
                                                           {saved[5], saved[6]}, grads[0]);
    return {dq, dk, dv, Tensor(), Tensor()};
  }
};

// Query heads that share keys become rows of one product.
Tensor ranged_attention(const Tensor& q, const Tensor& k, const Tensor& v, const KeyRanges& mask) {
  const std::int64_t batch = q.size(0), kv_heads = k.size(1), queries = q.size(2), columns = q.size(3);
  const std::int64_t group = q.size(1) / kv_heads;
  const KeyRanges ranges = with_tensors(mask, queries, k.size(2), q.device());
  auto both = at::broadcast_tensors({ranges.first.unsqueeze(0), ranges.end.unsqueeze(0)});  // [1, B or 1, Q]
  if (ranges.prefix_end.defined())
    both = {at::cat({both[0], ranges.prefix_first}), at::cat({both[1], ranges.prefix_end})};  // [1 + A, B, Q]
  const auto keys = [](const Tensor& x) { return x.flatten(0, 1).contiguous(); };             // [H, S, D]
  const Tensor rows = q.unflatten(1, {kv_heads, group}).transpose(2, 3).reshape({batch * kv_heads, -1, columns});
  const Tensor out =
      RangedFunction::apply(rows.contiguous(), keys(k), keys(v), both[0].contiguous(), both[1].contiguous());
  return out.view({batch, kv_heads, queries, group, columns}).transpose(1, 2).reshape({batch, queries, -1});
}

}  // namespace

Tensor attention_plain(const Tensor& q, const Tensor& k, const Tensor& v, const KeyRanges& mask) {
  const auto compute = kernels::needs_fp32_gemm(q.scalar_type(), q.device()) ? torch::kFloat : q.scalar_type();
  const Tensor keys = repeat_heads(k.to(compute), q.size(1));
  const Tensor values = repeat_heads(v.to(compute), q.size(1));
  Tensor scores = at::matmul(q.to(compute), keys.transpose(2, 3));  // [B, A, T, S]
  if (const Tensor bias = additive(mask, q, k, compute); bias.defined()) scores = scores + bias;
  const Tensor weights = at::softmax(scores, -1, torch::kFloat).to(compute);
  return merge_heads(without_keyless_gradients(at::matmul(weights, values), mask).to(q.scalar_type()));
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const KeyRanges& mask) {
  TORCH_CHECK(q.size(1) % k.size(1) == 0, q.size(1), " heads cannot share ", k.size(1), " key/value heads");
  if (q.is_meta()) return attention_plain(q, k, v, mask);
  // One query, as in decoding, gives the ranged kernel too little to share out. It is computed in float32: products of
  // one row in bfloat16 come from a routine without vectors on some processors, a third of a token's time.
  const bool one_query = kernels::may_loop(q) && q.size(2) == 1;
  if (one_query && !mask.end.defined() && !mask.causal && kernels::has_one_query_attention(q, k, v))
    return merge_heads(kernels::one_query_attention(q, k, v));
  if (!one_query && kernels::has_ranged_attention(q)) return ranged_attention(q, k, v, mask);
  if (mask.end.defined() && !mask.causal && kernels::may_loop(q) && q.size(2) > kMostMaskedQueries) {
    const auto wide = [](const Tensor& x) { return x.to(torch::kFloat); };
    const Tensor out = blocked_attention(wide(q), wide(k), wide(v), mask);
    return merge_heads(without_keyless_gradients(out, mask).to(q.scalar_type()));
  }
  const bool wide = one_query || kernels::needs_fp32_gemm(q.scalar_type(), q.device());
  const auto compute = wide ? torch::kFloat : q.scalar_type();
  std::optional<Tensor> bias;
  if (mask.end.defined() && !mask.causal)
    bias = kept(mask, &KeyRanges::Made::bias, [&] { return additive(mask, q, k, compute); });
  const Tensor out = at::scaled_dot_product_attention(q.to(compute), repeat_heads(k.to(compute), q.size(1)),
                                                      repeat_heads(v.to(compute), q.size(1)), bias, /*dropout_p=*/0.0,
                                                      mask.causal, /*scale=*/1.0);
  return merge_heads(without_keyless_gradients(out, mask).to(q.scalar_type()));
}

}  // namespace bezel::nn
