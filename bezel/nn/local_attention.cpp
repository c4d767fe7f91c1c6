#include "bezel/nn/local_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "bezel/nn/functional.h"
#include "bezel/nn/recompute.h"

namespace bezel::nn {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// x [T, A, D] -> [A, chunks, chunk, D], zeros after the end.
Tensor query_chunks(const Tensor& x, const Chunks& chunks) {
  const std::int64_t count = chunks.mask.size(0), chunk = chunks.mask.size(1);
  const Tensor padded = at::constant_pad_nd(x, {0, 0, 0, 0, 0, count * chunk - x.size(0)});
  return padded.view({count, chunk, x.size(1), x.size(2)}).permute({2, 0, 1, 3});
}

// x [T, A, D] -> [A, chunks, context, D]: the frames that each chunk may look at, zeros beyond both ends.
Tensor contexts(const Tensor& x, const Chunks& chunks) {
  const std::int64_t count = chunks.mask.size(0), chunk = chunks.mask.size(1), context = chunks.mask.size(2);
  const std::int64_t after = (count - 1) * chunk + context - chunks.before - x.size(0);
  const Tensor padded = at::constant_pad_nd(x, {0, 0, 0, 0, chunks.before, after});
  const auto options = x.options().dtype(torch::kLong).requires_grad(false);
  const Tensor frame = (at::arange(count, options) * chunk).unsqueeze(1) + at::arange(context, options);
  return gather_rows(padded, frame.flatten()).view({count, context, x.size(1), x.size(2)}).permute({2, 0, 1, 3});
}

// Scores by distance [A, chunks, chunk, C] -> by key [A, chunks, chunk, context]: row i moves i places to the right.
Tensor shift_to_keys(const Tensor& scores, std::int64_t context) {
  const std::int64_t heads = scores.size(0), chunks = scores.size(1), chunk = scores.size(2);
  const Tensor padded = at::constant_pad_nd(scores, {0, context + 1 - scores.size(3)});
  return padded.reshape({heads, chunks, chunk * (context + 1)})
      .narrow(2, 0, chunk * context)
      .view({heads, chunks, chunk, context});
}

struct KeptChunks : torch::CustomClassHolder {
  explicit KeptChunks(const Chunks& chunks) : chunks(chunks) {}
  Chunks chunks;
};

class LocalAttention : public torch::autograd::Function<LocalAttention> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& relative, const c10::intrusive_ptr<KeptChunks>& kept) {
    context->save_for_backward({q, k, v, relative});
    context->saved_data["chunks"] = c10::IValue::make_capsule(kept);
    return kernels::local_attention({q, k, v, relative}, kept->chunks);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const auto kept = c10::static_intrusive_pointer_cast<KeptChunks>(context->saved_data["chunks"].toCapsule());
    const ChunkedHeads d =
        kernels::local_attention_backward({saved[0], saved[1], saved[2], saved[3]}, kept->chunks, grads[0]);
    return {d.q, d.k, d.v, d.relative, Tensor()};
  }
};

}  // namespace

Tensor local_attention_plain(const ChunkedHeads& heads, const Chunks& chunks) {
  const auto wide = [](const Tensor& x) { return x.to(torch::kFloat); };
  const std::int64_t context = chunks.mask.size(2);
  const Tensor q = query_chunks(wide(heads.q) * chunks.q_scale * chunks.per_dim, chunks);
  const Tensor k = contexts(wide(heads.k) * chunks.k_scale, chunks), v = contexts(wide(heads.v), chunks);
  const Tensor distances = at::matmul(q.flatten(1, 2), wide(heads.relative).permute({1, 2, 0}));
  const Tensor relative = shift_to_keys(distances.view({q.size(0), q.size(1), q.size(2), -1}), context);
  Tensor scores = at::matmul(q, k.transpose(2, 3)) + relative;  // [A, chunks, chunk, context]
  scores = softcap(scores, chunks.logit_cap).masked_fill(chunks.mask.bitwise_not(), chunks.invalid_logit);
  const Tensor out = at::matmul(at::softmax(scores, -1), v);  // [A, chunks, chunk, D]
  const Tensor rows = out.permute({1, 2, 0, 3}).flatten(2).flatten(0, 1).narrow(0, 0, heads.q.size(0));
  return rows.to(heads.q.scalar_type());
}

Tensor local_attention(const ChunkedHeads& heads, const Chunks& chunks) {
  if (kernels::has_local_attention(heads))
    return LocalAttention::apply(heads.q, heads.k, heads.v, heads.relative, c10::make_intrusive<KeptChunks>(chunks))
        .flatten(1);
  // It computes little beside the projections, and would keep many times what it is given.
  const auto body = [chunks](const std::vector<Tensor>& again) {
    return std::vector<Tensor>{local_attention_plain({again[0], again[1], again[2], again[3]}, chunks)};
  };
  return recompute(body, {heads.q, heads.k, heads.v, heads.relative}, {})[0];
}

}  // namespace bezel::nn
