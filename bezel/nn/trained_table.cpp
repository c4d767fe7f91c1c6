#include "bezel/nn/trained_table.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/matmul.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

Tensor index_of(const std::vector<std::int64_t>& ids, torch::Device device) {
  return at::tensor(ids, at::TensorOptions(at::kLong)).to(device);
}

// Positions of `ids` that hold one of the trained rows, and which one each holds.
struct Found {
  std::vector<std::int64_t> positions, rows;
};

Found find(const TrainedTable& table, const Tensor& ids) {
  const Tensor host = ids.to(torch::kCPU).contiguous();
  const auto* const begin = host.const_data_ptr<std::int64_t>();
  Found found;
  for (std::int64_t i = 0; i < host.numel(); ++i) {
    const auto row = std::ranges::find(table.ids, begin[i]);
    if (row == table.ids.end()) continue;
    found.positions.push_back(i);
    found.rows.push_back(row - table.ids.begin());
  }
  return found;
}

// On a device: every position looks for its row there, and nothing is read back.
Tensor replaced_on_device(const TrainedTable& table, const Tensor& frozen, const Tensor& ids) {
  const Tensor same = ids.unsqueeze(1) == index_of(table.ids, ids.device());  // [N, R]
  const Tensor row = same.to(torch::kByte).argmax(1);
  const Tensor rows = table.rows.index_select(0, row).to(frozen.scalar_type());
  return at::where(same.any(1, /*keepdim=*/true), rows, frozen);
}

Tensor replaced_rows(const TrainedTable& table, const Tensor& frozen, const Tensor& ids) {
  if (!kernels::may_loop(ids)) return replaced_on_device(table, frozen, ids);
  const Found found = find(table, ids);
  if (found.positions.empty()) return frozen;
  const torch::Device device = frozen.device();
  const Tensor rows = table.rows.index_select(0, index_of(found.rows, device)).to(frozen.scalar_type());
  return frozen.index_copy(0, index_of(found.positions, device), rows);
}

// The base's products, with what is trained put in.
class ChangedHead final : public quant::Weight {
 public:
  ChangedHead(std::shared_ptr<const quant::Weight> base, std::shared_ptr<const TrainedTable> table)
      : base_(std::move(base)), table_(std::move(table)) {
    if (table_->rows.defined()) ids_ = index_of(table_->ids, base_->device());
  }

  std::vector<std::int64_t> shape() const override { return base_->shape(); }
  torch::Device device() const override { return base_->device(); }
  std::int64_t bytes() const override { return base_->bytes(); }
  std::string storage() const override { return base_->storage(); }

  Tensor matmul(const Tensor& x) const override {
    if (table_->whole.defined()) return kernels::matmul_nt(x, table_->whole.detach());
    Tensor y = base_->matmul(x);  // [N, V]
    if (table_->rows.defined()) return y.index_copy_(1, ids_, kernels::matmul_nt(x, table_->rows.detach()));
    return add_low_rank(y, x, false);
  }

  Tensor matmul_transposed(const Tensor& dy) const override {
    if (table_->whole.defined()) return kernels::matmul_nn(dy, table_->whole.detach());
    if (!table_->rows.defined()) return add_low_rank(base_->matmul_transposed(dy), dy, true);
    Tensor of_base = dy.clone();
    of_base.index_fill_(1, ids_, 0.0);
    return base_->matmul_transposed(of_base).add_(kernels::matmul_nn(dy.index_select(1, ids_), table_->rows.detach()));
  }

  Tensor rows(const Tensor& index, torch::ScalarType dtype) const override {
    Tensor rows = base_->rows(index, torch::kFloat);
    const at::NoGradGuard no_grad;
    return trained_rows(*table_, rows, index).to(dtype);
  }

  Tensor dequantize(torch::ScalarType dtype) const override {
    Tensor all = base_->dequantize(torch::kFloat).clone();  // which may be the matrix itself
    put_into_rows(*table_, all, 0);
    return all.to(dtype);
  }

  void evict(std::int64_t first_row) const override { base_->evict(first_row); }
  void pin() const override { base_->pin(); }
  void unpin() const override { base_->unpin(); }
  std::shared_ptr<const Weight> select(std::int64_t expert) const override { return base_->select(expert); }
  std::shared_ptr<const Weight> to(torch::Device device) const override { return base_->to(device); }

 private:
  // y + scale * x B A, of the table's factors or their transposes.
  Tensor add_low_rank(Tensor y, const Tensor& x, bool transposed) const {
    const Tensor left = table_->left().detach(), right = table_->right().detach();
    const Tensor first = transposed ? left : right.t(), second = transposed ? right : left.t();
    const Tensor wide = x.to(torch::kFloat).mm(first).mul_(table_->scale).mm(second);
    return wide.add_(y).to(y.scalar_type());
  }

  std::shared_ptr<const quant::Weight> base_;
  std::shared_ptr<const TrainedTable> table_;
  Tensor ids_;
};

}  // namespace

std::vector<Tensor> TrainedTable::tensors() const {
  if (is_low_rank()) return {a, b};
  return {rows.defined() ? rows : whole};
}

Tensor trained_rows(const TrainedTable& table, const Tensor& frozen, const Tensor& ids) {
  const auto look_up = [&](const Tensor& matrix) { return at::embedding(matrix, ids, table.padding_id); };
  if (table.rows.defined()) return replaced_rows(table, frozen, ids);
  if (table.whole.defined()) return look_up(table.whole).to(frozen.scalar_type());
  const Tensor update = look_up(table.left()).mm(table.right()) * table.scale;  // [N, H]
  return (frozen.to(torch::kFloat) + update).to(frozen.scalar_type());
}

void TrainedHead::set(std::shared_ptr<const TrainedTable> table) {
  table_ = std::move(table);
  base_ = whole_ = nullptr;
}

const std::shared_ptr<const quant::Weight>& TrainedHead::over(const std::shared_ptr<const quant::Weight>& base) {
  if (!table_) return base;
  if (base_ != base) {
    base_ = base;
    whole_ = std::make_shared<ChangedHead>(base, table_);
  }
  return whole_;
}

void add_head_gradients(const TrainedTable& table, const Tensor& x, const Tensor& dropped, const Tensor& d_logits,
                        std::vector<Tensor>& sums) {
  // In place: a sum is as large as what is trained.
  if (table.whole.defined()) {
    sums[0].addmm_(d_logits.to(torch::kFloat).t(), x.to(torch::kFloat));
    return;
  }
  if (table.rows.defined()) {
    const Tensor of_rows = d_logits.index_select(1, index_of(table.ids, x.device())).to(torch::kFloat);
    sums[0].addmm_(of_rows.t(), x.to(torch::kFloat));
    return;
  }
  const Tensor wide = dropped.to(torch::kFloat), a = table.a.detach(), b = table.b.detach();
  const Tensor d_wide = d_logits.to(torch::kFloat);
  const Tensor h = wide.mm(a.t()).mul_(table.scale);  // [N, r]
  sums[1].addmm_(d_wide.t(), h);
  sums[0].addmm_(d_wide.mm(b).mul_(table.scale).t(), wide);
}

void put_into_rows(const TrainedTable& table, Tensor& base, std::int64_t begin) {
  const at::NoGradGuard no_grad;
  const std::int64_t count = base.size(0);
  if (table.whole.defined()) {
    base.copy_(table.whole.narrow(0, begin, count));
  } else if (table.rows.defined()) {
    for (std::size_t i = 0; i < table.ids.size(); ++i)
      if (const std::int64_t row = table.ids[i] - begin; row >= 0 && row < count)
        base.select(0, row).copy_(table.rows.select(0, static_cast<std::int64_t>(i)));
  } else {
    base.add_(table.left().narrow(0, begin, count).mm(table.right()), table.scale);
  }
}

}  // namespace bezel::nn
