#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bezel/lora/config.h"
#include "bezel/nn/embedding.h"
#include "bezel/nn/trained_table.h"

namespace bezel::lora {

/// What a config trains of the token embeddings or of the head.
struct TableTarget {
  enum class Form { kLowRank, kRows, kWhole };

  std::string name;  ///< canonical module name: "model.language_model.embed_tokens" or "lm_head"
  Form form = Form::kLowRank;
  std::shared_ptr<nn::EmbeddingImpl> embedding{};  ///< null: the head alone
  std::shared_ptr<nn::TrainedHead> head{};         ///< null: the embeddings alone. Both: rows of a tied table
  std::shared_ptr<const quant::Weight> base{};     ///< null before a checkpoint is loaded
  std::vector<std::int64_t> shape{};               ///< of the table: [V, H]
  std::vector<std::int64_t> ids{};                 ///< kRows
  std::int64_t rank = 0;                           ///< kLowRank
  double alpha = 0;
  std::int64_t padding_id = -1;
  bool tied = false;                          ///< the head is the embeddings' table
  std::shared_ptr<nn::TrainedTable> table{};  ///< its tensors are undefined before it is attached

  std::int64_t parameters() const;
  /// A table of it that holds nothing yet.
  nn::TrainedTable empty_table() const;
  /// Puts `table` into the model, or takes it out.
  void put() const;
  void take_out() const;
  /// Its tensors with their names in a PEFT adapter file.
  std::vector<std::pair<std::string, torch::Tensor>> named_tensors(bool text_only) const;
};

/// The tables of a model: embeddings, then the head, tied or not; empty where there are no embeddings.
std::vector<TableTarget> tables_of(torch::nn::Module& model);

/// What a config trains of them. Throws Error (kConfig) for a module that is not one of them and no norm, tokens that
/// the model has no row of, a table that is named twice, and DoRA on one.
std::vector<TableTarget> select_tables(torch::nn::Module& model, const LoraConfig& config, bool text_only);

/// Makes the tensors of every table, as PEFT begins them, and puts them into the model: A of the embeddings zero and B
/// normal, of the head as of linear layers; rows and whole tables as in the base.
void attach_tables(const std::vector<TableTarget>& tables, const LoraConfig& config);
/// Makes a tied table's rows those of the head too, as PEFT does.
void tie_rows(std::vector<TableTarget>& tables, const std::vector<TableTarget>& known);

/// A [rank, in] and B [out, rank] as init_lora_weights begins them. Reference: peft's reset_lora_parameters.
std::pair<torch::Tensor, torch::Tensor> first_factors(std::int64_t rank, std::int64_t in, std::int64_t out,
                                                      const std::string& init, const torch::TensorOptions& options);

/// Those that a model has now.
std::vector<TableTarget> attached_tables(torch::nn::Module& model);

/// Takes what is trained of all tables out of a model.
void detach_tables(torch::nn::Module& model);

}  // namespace bezel::lora
