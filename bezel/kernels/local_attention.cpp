#include "bezel/kernels/local_attention.h"

#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {
namespace {

using torch::Tensor;

// What the loops read, and what keeps it.
struct ChunkedArguments {
  Tensor q, k, v, relative, per_dim, mask;
  simd::LocalAttention loop;

  ChunkedArguments(const ChunkedHeads& heads, const Chunks& chunks)
      : q(heads.q.contiguous()),
        k(heads.k.contiguous()),
        v(heads.v.contiguous()),
        relative(heads.relative.contiguous()),
        per_dim(chunks.per_dim.to(torch::kFloat).contiguous()),
        mask(chunks.mask.contiguous()),
        loop{.q = simd::bf16(q),
             .k = simd::bf16(k),
             .v = simd::bf16(v),
             .relative = simd::bf16(relative),
             .per_dim = per_dim.const_data_ptr<float>(),
             .mask = mask.const_data_ptr<bool>(),
             .q_scale = static_cast<float>(chunks.q_scale),
             .k_scale = static_cast<float>(chunks.k_scale),
             .cap = static_cast<float>(chunks.logit_cap),
             .invalid = static_cast<float>(chunks.invalid_logit),
             .frames = q.size(0),
             .heads = q.size(1),
             .columns = q.size(2),
             .chunk = mask.size(1),
             .context = mask.size(2),
             .before = chunks.before,
             .distances = relative.size(0)} {}
};

}  // namespace

bool has_local_attention(const ChunkedHeads& heads) {
  return may_loop(heads.q) && heads.q.scalar_type() == torch::kBFloat16 &&
         heads.relative.scalar_type() == torch::kBFloat16;
}

Tensor local_attention(const ChunkedHeads& heads, const Chunks& chunks) {
  ChunkedArguments all(heads, chunks);
  Tensor out = at::empty_like(all.q);
  all.loop.out = simd::bf16(out);
  at::parallel_for(0, all.mask.size(0) * all.loop.heads, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scratch(static_cast<std::size_t>(simd::local_attention_scratch(all.loop)));
    simd::row_kernels().local_attention(all.loop, begin, end, scratch.data());
  });
  return out;
}

ChunkedHeads local_attention_backward(const ChunkedHeads& heads, const Chunks& chunks, const Tensor& d_out) {
  ChunkedArguments all(heads, chunks);
  const Tensor d = d_out.contiguous();
  ChunkedHeads out{at::empty_like(all.q), at::empty_like(all.k), at::empty_like(all.v), at::empty_like(all.relative)};
  all.loop.d_out = simd::bf16(d);
  all.loop.dq = simd::bf16(out.q);
  all.loop.dk = simd::bf16(out.k);
  all.loop.dv = simd::bf16(out.v);
  all.loop.d_relative = simd::bf16(out.relative);
  at::parallel_for(0, all.loop.heads, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scratch(static_cast<std::size_t>(simd::local_attention_scratch(all.loop)));
    simd::row_kernels().local_attention_backward(all.loop, begin, end, scratch.data());
  });
  return out;
}

}  // namespace bezel::kernels
