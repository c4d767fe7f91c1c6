#include "bezel/nn/blocked_attention.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace bezel::nn {
namespace {

using torch::Tensor;

// Runs of keys [first, end), apart from each other and in order.
using Runs = std::vector<std::pair<std::int64_t, std::int64_t>>;

// The tensors of KeyRanges as one, [R, B or 1, Q]: a query's own run and those of the segments before.
struct Bounds {
  Tensor first, end;

  Bounds of_block(std::int64_t begin, std::int64_t count) const {
    return {first.narrow(2, begin, count), end.narrow(2, begin, count)};
  }
};

Bounds bounds_of(const KeyRanges& ranges) {
  const Tensor first = ranges.first.unsqueeze(0), end = ranges.end.unsqueeze(0);
  if (!ranges.prefix_end.defined()) return {first, end};
  const auto with = [](const Tensor& own, const Tensor& prefixes) {
    return at::cat({own.expand({1, prefixes.size(1), -1}), prefixes});
  };
  return {with(first, ranges.prefix_first), with(end, ranges.prefix_end)};
}

// What any query of a block sees.
Runs runs_of(const Bounds& block) {
  const Tensor empty = block.end.le(block.first);
  const Tensor first = block.first.masked_fill(empty, std::numeric_limits<std::int64_t>::max()).amin({1, 2});
  const Tensor end = block.end.masked_fill(empty, 0).amax({1, 2});
  Runs all;
  for (std::int64_t range = 0; range < first.size(0); ++range) {
    const auto from = first.const_data_ptr<std::int64_t>()[range], until = end.const_data_ptr<std::int64_t>()[range];
    if (from < until) all.emplace_back(from, until);
  }
  std::ranges::sort(all);
  Runs joined;
  for (const auto& [from, until] : all) {
    if (!joined.empty() && from <= joined.back().second)
      joined.back().second = std::max(joined.back().second, until);
    else
      joined.emplace_back(from, until);
  }
  return joined;
}

// Rows of x [B, K, S, D] -> [B, K, M, D].
Tensor select(const Tensor& x, const Runs& runs) {
  std::vector<Tensor> parts;
  for (const auto& [first, end] : runs) parts.push_back(x.narrow(2, first, end - first));
  return parts.size() == 1 ? parts[0] : at::cat(parts, 2);
}

// part [B, K, M, D] added to the rows that select() took.
void add_to(const Tensor& sums, const Runs& runs, const Tensor& part) {
  std::int64_t place = 0;
  for (const auto& [first, end] : runs) {
    sums.narrow(2, first, end - first).add_(part.narrow(2, place, end - first));
    place += end - first;
  }
}

// Bool [B or 1, n, M], true where a query of the block does not see the key.
Tensor hidden_keys(const Bounds& block, const Runs& runs) {
  std::vector<Tensor> parts;
  for (const auto& [first, end] : runs) parts.push_back(at::arange(first, end, at::kLong));
  const Tensor key = at::cat(parts);  // [M]
  Tensor seen;
  for (std::int64_t range = 0; range < block.first.size(0); ++range) {
    const Tensor one = key.lt(block.end[range].unsqueeze(2)).bitwise_and(key.ge(block.first[range].unsqueeze(2)));
    seen = seen.defined() ? seen.bitwise_or(one) : one;
  }
  return seen.bitwise_not();
}

// One block of queries and what it sees. Query heads that share keys are rows of one product.
struct Block {
  std::int64_t begin, count, kv_heads;
  Runs runs;
  Tensor hidden;  // bool [B or 1, 1, 1, n, M]

  // [B, A, Q, D] -> [B, K, G * n, D]
  Tensor rows(const Tensor& x) const {
    return x.narrow(2, begin, count).unflatten(1, {kv_heads, -1}).reshape({x.size(0), kv_heads, -1, x.size(3)});
  }
  // The reverse, into `x`.
  void store(const Tensor& rows, const Tensor& x) const {
    x.narrow(2, begin, count)
        .unflatten(1, {kv_heads, -1})
        .copy_(rows.view({x.size(0), kv_heads, -1, count, x.size(3)}));
  }
  // softmax(q kᵀ) [B, K, G * n, M] from rows of q and selected k.
  Tensor weights(const Tensor& q, const Tensor& k) const {
    const Tensor scores = at::matmul(q, k.transpose(2, 3));
    scores.unflatten(2, {-1, count}).masked_fill_(hidden, lowest(scores.scalar_type()));
    return at::softmax(scores, -1);
  }
  static double lowest(torch::ScalarType dtype) {
    return dtype == torch::kBFloat16 ? -3.3895313892515355e38 : std::numeric_limits<float>::lowest();
  }
};

// Calls body(block) for each block of queries that sees keys.
template <typename Body>
void for_blocks(const Tensor& q, const Tensor& k, const Bounds& bounds, const Body& body) {
  for (std::int64_t begin = 0; begin < q.size(2); begin += kAttentionBlock) {
    const std::int64_t count = std::min(kAttentionBlock, q.size(2) - begin);
    const Bounds some = bounds.of_block(begin, count);
    Block block{begin, count, k.size(1), runs_of(some), {}};
    if (block.runs.empty()) continue;
    block.hidden = hidden_keys(some, block.runs).unsqueeze(1).unsqueeze(1);
    body(block);
  }
}

class BlockedFunction : public torch::autograd::Function<BlockedFunction> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& first, const Tensor& end) {
    const Tensor out = at::zeros(q.sizes(), q.options());
    for_blocks(q, k, {first, end}, [&](const Block& block) {
      const Tensor weights = block.weights(block.rows(q), select(k, block.runs));
      block.store(at::matmul(weights, select(v, block.runs)), out);
    });
    context->save_for_backward({q, k, v, first, end});
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const auto zeros = [](const Tensor& x) { return at::zeros(x.sizes(), x.options()); };
    const Tensor dq = zeros(q), dk = zeros(k), dv = zeros(v);
    for_blocks(q, k, {saved[3], saved[4]}, [&](const Block& block) {
      const Tensor queries = block.rows(q), keys = select(k, block.runs), d_out = block.rows(grads[0]);
      const Tensor weights = block.weights(queries, keys);
      add_to(dv, block.runs, at::matmul(weights.transpose(2, 3), d_out));
      const Tensor d_weights = at::matmul(d_out, select(v, block.runs).transpose(2, 3));
      const Tensor d_scores = at::_softmax_backward_data(d_weights, weights, -1, weights.scalar_type());
      add_to(dk, block.runs, at::matmul(d_scores.transpose(2, 3), queries));
      block.store(at::matmul(d_scores, keys), dq);
    });
    return {dq, dk, dv, Tensor(), Tensor()};
  }
};

}  // namespace

Tensor blocked_attention(const Tensor& q, const Tensor& k, const Tensor& v, const KeyRanges& ranges) {
  TORCH_CHECK(ranges.end.defined(), "attention in blocks needs ranges with tensors");
  const Bounds bounds = bounds_of(ranges);
  return BlockedFunction::apply(q, k, v, bounds.first, bounds.end);
}

}  // namespace bezel::nn
