#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/types.h>

#include "bezel/quant/weight.h"

/// What is trained of a table [V, H] beside the linear layers' adapters: of the token embeddings, or of the head.
/// Reference: peft 0.21.2, lora.Embedding, TrainableTokensLayer and ModulesToSaveWrapper.
namespace bezel::nn {

/// One of three forms, float32 whatever the base is:
///  - LoRA: the table is W + scale * left() right()
///  - rows: those of `ids` are replaced by `rows`
///  - whole: `whole` in place of the table
struct TrainedTable {
  torch::Tensor a;  ///< LoRA of the embeddings: [rank, V]; of the head: [rank, H]
  torch::Tensor b;  ///< LoRA of the embeddings: [H, rank]; of the head: [V, rank]
  double scale = 1.0;
  double dropout = 0.0;  ///< of the head's LoRA, in training mode only; PEFT drops nothing of the embeddings'

  std::vector<std::int64_t> ids;  ///< of `rows`
  torch::Tensor rows;             ///< [n, H]
  torch::Tensor whole;            ///< [V, H]

  bool is_embedding = false;
  std::int64_t padding_id = -1;  ///< whose row gets no gradient as an input, as PyTorch's padding_idx

  bool is_low_rank() const { return a.defined(); }
  /// The factors of what LoRA adds to the table: [V, rank] and [rank, H].
  torch::Tensor left() const { return is_embedding ? a.t() : b; }
  torch::Tensor right() const { return is_embedding ? b.t() : a; }
  /// What is trained: two tensors of LoRA, else one.
  std::vector<torch::Tensor> tensors() const;
};

/// Rows `ids` (int64 [N]) of the table -> [N, H] in `dtype`, with a graph to what is trained. `frozen` are the base's.
torch::Tensor trained_rows(const TrainedTable& table, const torch::Tensor& frozen, const torch::Tensor& ids);

/// Where what is trained of the head is kept, tied to the embeddings or not. Takes nothing from a checkpoint.
class TrainedHead : public torch::nn::Module {
 public:
  /// Null: the head is frozen.
  const std::shared_ptr<const TrainedTable>& table() const { return table_; }
  void set(std::shared_ptr<const TrainedTable> table);
  /// The head as a matrix: products are those of the frozen `base` with what is trained put in, without a graph.
  const std::shared_ptr<const quant::Weight>& over(const std::shared_ptr<const quant::Weight>& base);

 private:
  std::shared_ptr<const TrainedTable> table_;
  std::shared_ptr<const quant::Weight> base_, whole_;
};

/// Adds to `sums` (float32, as tensors()) the gradients of what is trained of a head, from rows x [N, H] that entered
/// it and the gradient of the logits [N, V]. `dropped` is what entered A.
void add_head_gradients(const TrainedTable& table, const torch::Tensor& x, const torch::Tensor& dropped,
                        const torch::Tensor& d_logits, std::vector<torch::Tensor>& sums);

/// The table with what is trained put in, rows [begin, begin + N): `base` float32 [N, H] is changed.
void put_into_rows(const TrainedTable& table, torch::Tensor& base, std::int64_t begin);

}  // namespace bezel::nn
