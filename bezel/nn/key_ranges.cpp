#include "bezel/nn/key_ranges.h"

#include <ATen/ATen.h>

namespace bezel::nn {

using torch::Tensor;

namespace {

Tensor count_from(std::int64_t first, std::int64_t end, torch::Device device) {
  return at::arange(first, end, at::TensorOptions(at::kLong).device(device)).unsqueeze(0);
}

// x [B, T] shifted right by one, with `fill` at the start of each row.
Tensor previous(const Tensor& x, const c10::Scalar& fill) {
  return at::constant_pad_nd(x.narrow(1, 0, x.size(1) - 1), {1, 0}, fill);
}

// x [A, B, T] at the queries.
Tensor of_queries(const Tensor& x, const MaskSpec& rule) {
  if (!rule.queries.defined()) return x;
  return x.gather(2, rule.queries.unsqueeze(0).expand({x.size(0), -1, -1}));
}

// Sets the ranges of the segments before those of the queries, whose places among the keys are `query` [B or 1, Q].
void add_prefixes(const MaskSpec& rule, const Tensor& query, bool has_window, KeyRanges& ranges) {
  TORCH_CHECK(rule.segment_start.defined() && !rule.attention_mask.defined() && rule.num_past == 0,
              "shared prefixes go with segments, and neither with padding nor with a past");
  ranges.prefix_first = of_queries(rule.prefix_begin, rule);
  ranges.prefix_end = of_queries(rule.prefix_end, rule);
  if (!has_window) return;
  const Tensor size = ranges.prefix_end - ranges.prefix_first, until = size.cumsum(0);  // [A, B, Q]
  const Tensor own = rule.queries.defined() ? rule.segment_start.gather(1, rule.queries) : rule.segment_start;
  const Tensor position = query - own + until.select(0, -1);  // [B, Q]
  const Tensor out_of_window = position - (rule.window - 1) - (until - size);
  ranges.prefix_first = ranges.prefix_first + out_of_window.clamp_min(0);
}

}  // namespace

KeyRanges key_ranges(const MaskSpec& rule, torch::Device device) {
  const auto of_query = [&](const Tensor& x) { return rule.queries.defined() ? x.gather(1, rule.queries) : x; };
  const bool window = rule.window > 0 && rule.num_keys > rule.window;
  // Places among the keys, [B or 1, Q].
  const Tensor query =
      rule.queries.defined() ? rule.queries + rule.num_past : count_from(rule.num_past, rule.num_keys, device);
  KeyRanges ranges{at::zeros_like(query), query + 1};
  if (window) ranges.first = (query - (rule.window - 1)).clamp_min(0);
  if (rule.image_run_begin.defined())
    ranges.first = at::minimum(ranges.first, of_query(rule.image_run_begin) + rule.num_past);
  if (rule.segment_start.defined()) ranges.first = at::maximum(ranges.first, of_query(rule.segment_start));
  if (rule.attention_mask.defined())
    ranges.first = at::maximum(ranges.first, rule.attention_mask.to(torch::kLong).argmax(1, /*keepdim=*/true));
  if (rule.image_run_end.defined()) ranges.end = at::maximum(ranges.end, of_query(rule.image_run_end) + rule.num_past);
  ranges.causal = !window && rule.num_past == 0 && !rule.segment_start.defined() && !rule.attention_mask.defined() &&
                  !rule.image_run_end.defined() && !rule.queries.defined();
  if (rule.prefix_begin.defined()) add_prefixes(rule, query, window, ranges);
  ranges.made = std::make_shared<KeyRanges::Made>();
  ranges.may_lack_keys = rule.attention_mask.defined();
  return ranges;
}

KeyRanges with_tensors(const KeyRanges& ranges, std::int64_t num_queries, std::int64_t num_keys, torch::Device device) {
  if (ranges.end.defined()) return ranges;
  const Tensor up_to = count_from(1, num_queries + 1, device);  // [1, Q]
  return {at::zeros_like(up_to), ranges.causal ? up_to : at::full_like(up_to, num_keys), ranges.causal};
}

Tensor dense_mask(const KeyRanges& ranges, std::int64_t num_queries, std::int64_t num_keys, torch::Device device) {
  if (!ranges.end.defined() && !ranges.causal) return {};
  const KeyRanges defined = with_tensors(ranges, num_queries, num_keys, device);
  const Tensor key = count_from(0, num_keys, device).unsqueeze(0);  // [1, 1, S]
  const auto seen = [&key](const Tensor& first, const Tensor& end) {
    return (key < end.unsqueeze(2)).bitwise_and(key >= first.unsqueeze(2));
  };
  Tensor mask = seen(defined.first, defined.end);
  if (defined.prefix_end.defined())
    for (std::int64_t a = 0; a < defined.prefix_end.size(0); ++a)
      mask = mask.bitwise_or(seen(defined.prefix_first.select(0, a), defined.prefix_end.select(0, a)));
  return mask;
}

Tensor image_run_ends(const Tensor& token_types, const Tensor& segment_start) {
  const Tensor seen = (token_types == 1).bitwise_or(token_types == 2);
  Tensor goes_on = previous(seen, false);
  if (segment_start.defined()) goes_on = goes_on.bitwise_and(previous(segment_start, -1) == segment_start);
  const Tensor run = seen.bitwise_and(goes_on.bitwise_not()).to(torch::kLong).cumsum(1).sub_(1).clamp_min_(0);
  const Tensor one = seen.to(torch::kLong), counted = one.cumsum(1);
  // Image tokens up to the end of each position's run.
  const Tensor until_end = at::zeros_like(run).scatter_add(1, run, one).cumsum(1).gather(1, run);  // [B, T]
  const Tensor end = count_from(1, seen.size(1) + 1, seen.device()) + until_end - counted;
  return at::where(seen, end, at::zeros_like(end));
}

Tensor image_run_begins(const Tensor& ends) {
  const Tensor place = count_from(0, ends.size(1), ends.device()).expand_as(ends);
  const Tensor starts = ends.ne(0).bitwise_and(previous(ends, 0).ne(ends));  // runs side by side end elsewhere
  const Tensor last_start = std::get<0>(at::cummax(at::where(starts, place, at::zeros_like(place)), 1));
  return at::where(ends.ne(0), last_start, at::full_like(ends, ends.size(1)));
}

}  // namespace bezel::nn
