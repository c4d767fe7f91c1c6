#include "bezel/input/batch.h"

#include <algorithm>

#include <ATen/ATen.h>

namespace bezel::input {
namespace {

using torch::Tensor;

// Calls `visit` with each tensor that is defined; `Given` is Batch or const Batch.
template <typename Given, typename Visit>
void visit_tensors(Given& batch, Visit visit) {
  const auto each = [&](auto&... tensors) { ((tensors.defined() ? visit(tensors) : void()), ...); };
  each(batch.input_ids, batch.attention_mask, batch.mm_token_type_ids, batch.row_keys, batch.segment_start,
       batch.prefix_begin, batch.prefix_end, batch.label_flat_index, batch.label_ids, batch.query_positions,
       batch.label_query_index, batch.placeholder_rows, batch.soft_rows);
  for (auto& media : batch.media) each(media.features, media.layout, media.soft_index);
}

// That a tensor takes in a copy of all, so that the one behind it is aligned.
std::int64_t room_bytes(const Tensor& tensor) { return (static_cast<std::int64_t>(tensor.nbytes()) + 15) / 16 * 16; }

}  // namespace

void Batch::index_labels() {
  const std::int64_t num_rows = input_ids.size(0), tokens = input_ids.size(1), labels = num_labels();
  const auto* rows = label_flat_index.data_ptr<std::int64_t>();
  // A position that predicts labels of several samples is asked once.
  std::vector<std::int64_t> place(static_cast<std::size_t>(num_rows * tokens), -1);
  std::vector<std::vector<std::int64_t>> positions(static_cast<std::size_t>(num_rows));
  std::size_t most = 0;
  for (std::int64_t i = 0; i < labels; ++i) {
    auto& row = positions[static_cast<std::size_t>(rows[i] / tokens)];
    std::int64_t& found = place[static_cast<std::size_t>(rows[i])];
    if (found >= 0) continue;
    found = static_cast<std::int64_t>(row.size());
    row.push_back(rows[i] % tokens);
    most = std::max(most, row.size());
  }
  const auto width = static_cast<std::int64_t>(most);
  query_positions = at::zeros({num_rows, width}, at::kLong);
  label_query_index = at::empty({labels}, at::kLong);
  auto* slots = label_query_index.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < labels; ++i)
    slots[i] = rows[i] / tokens * width + place[static_cast<std::size_t>(rows[i])];
  auto* asked = query_positions.data_ptr<std::int64_t>();
  for (std::int64_t b = 0; b < num_rows; ++b)
    std::ranges::copy(positions[static_cast<std::size_t>(b)], asked + b * width);
}

Tensor Batch::flat_row_keys() const {
  return row_keys.defined() ? row_keys.flatten() : at::arange(input_ids.numel(), input_ids.options());
}

std::int64_t Batch::num_bytes() const {
  std::int64_t bytes = 0;
  visit_tensors(*this, [&](const Tensor& tensor) { bytes += static_cast<std::int64_t>(tensor.nbytes()); });
  return bytes;
}

Batch Batch::to(torch::Device device) const {
  Batch moved = *this;
  if (device.is_cpu() || (input_ids.defined() && input_ids.device() == device)) {
    visit_tensors(moved, [&](Tensor& tensor) { tensor = tensor.to(device); });
    return moved;
  }
  std::int64_t bytes = 0;
  visit_tensors(*this, [&](const Tensor& tensor) { bytes += room_bytes(tensor); });
  Tensor all = at::zeros({bytes}, at::kByte);
  std::int64_t begin = 0;
  // The bytes at `begin` as a tensor like `like`.
  const auto part = [&begin](const Tensor& of, const Tensor& like) {
    return of.narrow(0, begin, static_cast<std::int64_t>(like.nbytes())).view(like.scalar_type()).view(like.sizes());
  };
  visit_tensors(*this, [&](const Tensor& tensor) {
    part(all, tensor).copy_(tensor);
    begin += room_bytes(tensor);
  });
  all = all.to(device);
  begin = 0;
  visit_tensors(moved, [&](Tensor& tensor) {
    const std::int64_t room = room_bytes(tensor);
    tensor = part(all, tensor);
    begin += room;
  });
  moved.on_host = std::make_shared<const Batch>(*this);
  return moved;
}

PerKind<bool> Batch::kinds() const {
  PerKind<bool> kinds;
  for (const Media& item : media) kinds[item.kind] = true;
  return kinds;
}

PerKind<std::int64_t> soft_tokens(const std::vector<Media>& media) {
  PerKind<std::int64_t> sums;
  for (const Media& item : media) sums[item.kind] += item.num_soft_tokens;
  return sums;
}

}  // namespace bezel::input
