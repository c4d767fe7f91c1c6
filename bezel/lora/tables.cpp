#include "bezel/lora/tables.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/error.h"
#include "bezel/io/key_map.h"
#include "bezel/lora/match.h"
#include "bezel/lora/norms.h"
#include "bezel/lora/pissa_config.h"
#include "bezel/nn/linear.h"

namespace bezel::lora {
namespace {

using torch::Tensor;

constexpr std::string_view kEmbeddings = "model.language_model.embed_tokens";
constexpr std::string_view kHead = "lm_head";

const TableTarget* find_table(const std::vector<TableTarget>& tables, const std::string& name, bool text_only) {
  const auto found = std::ranges::find_if(
      tables, [&](const TableTarget& table) { return is_called(spellings(table.name, text_only), name); });
  return found == tables.end() ? nullptr : &*found;
}

const TableTarget& table_called(const std::vector<TableTarget>& tables, const std::string& key, const std::string& name,
                                bool text_only) {
  if (const TableTarget* table = find_table(tables, name, text_only)) return *table;
  throw Error(ErrorKind::kConfig, key, ": '", name, "' is not trained whole in Bezel, only embed_tokens, lm_head and ",
              "norms of the decoder are; take it out, or adapt it with target_modules where it is a linear layer");
}

bool is_tied(const std::vector<TableTarget>& known) { return known.size() == 2 && known[1].tied; }

void check_ids(const TableTarget& table, const std::vector<std::int64_t>& ids) {
  const auto refuse = [&](const auto&... parts) {
    throw Error(ErrorKind::kConfig, "trainable_token_indices: ", parts...);
  };
  if (ids.empty()) refuse("got no token for ", table.name);
  std::set<std::int64_t> seen;
  for (const std::int64_t id : ids) {
    if (id == table.padding_id) refuse("token ", id, " fills up rows, and is not trained as an input");
    if (id < 0 || id >= table.shape[0])
      refuse("token ", id, " lies outside the ", table.shape[0], " rows of ", table.name);
    if (!seen.insert(id).second) refuse("token ", id, " of ", table.name, " is given twice");
  }
}

void add_low_rank(const std::vector<TableTarget>& known, const LoraConfig& config, bool text_only,
                  std::vector<TableTarget>& chosen) {
  using Kind = ModulePattern::Kind;
  if (config.target_modules.kind != Kind::kNames && config.target_modules.kind != Kind::kRegex) return;
  const ModuleMatcher targets(config), excluded(config.exclude_modules, "exclude_modules");
  const PatternTable<std::int64_t> ranks(config.rank_pattern, "rank_pattern");
  const PatternTable<double> alphas(config.alpha_pattern, "alpha_pattern");
  for (TableTarget table : known) {
    const auto names = spellings(table.name, text_only);
    if (!targets.matches(names) || excluded.matches(names)) continue;
    if (config.use_dora)
      throw Error(ErrorKind::kConfig, "use_dora: DoRA on ", table.name,
                  " is not built; leave it out of target_modules, or train it whole with modules_to_save");
    table.rank = ranks.find(names, config.rank);
    table.alpha = alphas.find(names, config.alpha);
    chosen.push_back(std::move(table));
  }
}

void add_rows(const std::vector<TableTarget>& known, const LoraConfig& config, bool text_only,
              std::vector<TableTarget>& chosen) {
  const std::vector<std::int64_t>* of_embeddings = nullptr;
  for (const auto& [name, ids] : config.trainable_token_indices) {
    TableTarget table = table_called(known, "trainable_token_indices", name, text_only);
    check_ids(table, ids);
    table.form = TableTarget::Form::kRows;
    table.ids = ids;
    if (table.embedding) of_embeddings = &ids;
    // Tied tables share the rows.
    if (!table.embedding && is_tied(known) && (of_embeddings == nullptr || *of_embeddings != ids))
      throw Error(ErrorKind::kConfig,
                  "trainable_token_indices: the head is tied to embed_tokens, so name embed_tokens, "
                  "whose rows are the head's too");
    if (!table.embedding && is_tied(known)) continue;
    chosen.push_back(std::move(table));
  }
}

void add_whole(const std::vector<TableTarget>& known, const torch::nn::Module& model, const LoraConfig& config,
               bool text_only, std::vector<TableTarget>& chosen) {
  const std::vector<NormTarget> norms = select_norms(model, config.modules_to_save);
  for (const std::string& name : config.modules_to_save) {
    if (std::ranges::any_of(norms, [&](const NormTarget& norm) { return is_norm_called(norm.name, name); })) continue;
    TableTarget table = table_called(known, "modules_to_save", name, text_only);
    table.form = TableTarget::Form::kWhole;
    chosen.push_back(std::move(table));
  }
}

Tensor own_rows(const TableTarget& target, const std::vector<std::int64_t>& ids) {
  const Tensor index = at::tensor(ids, at::TensorOptions(at::kLong)).to(target.base->device());
  return target.base->rows(index, torch::kFloat).clone().requires_grad_();
}

Tensor whole_table(const TableTarget& target) {
  // A copy: what is dense and float32 is the file's own pages.
  return target.base->dequantize(torch::kFloat).clone().requires_grad_();
}

// kaiming-uniform with a = sqrt(5): gain sqrt(2 / 6), so the bound is 1 / sqrt(fan in).
Tensor kaiming(std::int64_t rows, std::int64_t fan_in, const torch::TensorOptions& options) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
  return at::empty({rows, fan_in}, options).uniform_(-bound, bound);
}

// Rows of one orthogonal matrix, by turns A's and B's: B A is zero. Reference: peft's orthogonal_init.
std::pair<Tensor, Tensor> orthogonal(std::int64_t rank, std::int64_t in, std::int64_t out,
                                     const torch::TensorOptions& options) {
  const Tensor q = std::get<0>(at::linalg_qr(at::randn({rank, rank}, options)));
  const Tensor of_a = q.slice(0, 0, rank, 2), of_b = q.slice(0, 1, rank, 2);  // [rank / 2, rank]
  const Tensor a = at::randn({in, rank / 2}, options).mm(of_a).t().div(10.0).contiguous();
  const Tensor b = at::randn({rank / 2, out}, options).t().mm(of_b).div(10.0).contiguous();
  return {a, b};
}

// Drawn on the CPU, as other adapters are.
void make_low_rank(const TableTarget& target, const LoraConfig& config, torch::Device device) {
  if (parse_pissa(config.init_lora_weights))
    throw Error(ErrorKind::kConfig, "init_lora_weights: got ", config.init_lora_weights, " beside LoRA on ",
                target.name,
                ", which PEFT begins so for linear layers alone; take it out of target_modules, or write true");
  nn::TrainedTable& table = *target.table;
  const auto options = torch::TensorOptions().dtype(torch::kFloat);
  const std::int64_t rows = target.shape[0], width = target.shape[1];
  if (table.is_embedding) {
    const bool begins_at_zero = config.init_lora_weights != "false";
    table.a = begins_at_zero ? at::zeros({target.rank, rows}, options) : at::randn({target.rank, rows}, options);
    table.b = at::randn({width, target.rank}, options);
  } else {
    std::tie(table.a, table.b) = first_factors(target.rank, width, rows, config.init_lora_weights, options);
  }
  table.a = table.a.to(device).requires_grad_();
  table.b = table.b.to(device).requires_grad_();
  table.scale = config.scale(target.rank, target.alpha);
  table.dropout = table.is_embedding ? 0.0 : config.dropout;
}

}  // namespace

std::pair<Tensor, Tensor> first_factors(std::int64_t rank, std::int64_t in, std::int64_t out, const std::string& init,
                                        const torch::TensorOptions& options) {
  if (init == "orthogonal") return orthogonal(rank, in, out, options);
  if (init == "false") {
    Tensor a = kaiming(rank, in, options);
    return {a, kaiming(out, rank, options)};
  }
  const Tensor a = init == "gaussian" ? at::empty({rank, in}, options).normal_(0.0, 1.0 / static_cast<double>(rank))
                                      : kaiming(rank, in, options);
  return {a, at::zeros({out, rank}, options)};
}

std::int64_t TableTarget::parameters() const {
  switch (form) {
    case Form::kLowRank:
      return rank * (shape[0] + shape[1]);
    case Form::kRows:
      return static_cast<std::int64_t>(ids.size()) * shape[1];
    case Form::kWhole:
      return shape[0] * shape[1];
  }
  return 0;
}

nn::TrainedTable TableTarget::empty_table() const {
  nn::TrainedTable table;
  table.is_embedding = embedding != nullptr;
  table.padding_id = padding_id;
  return table;
}

void TableTarget::put() const {
  if (embedding) embedding->trained = table;
  if (head) head->set(table);
}

void TableTarget::take_out() const {
  if (embedding) embedding->trained = nullptr;
  if (head) head->set(nullptr);
}

std::vector<std::pair<std::string, Tensor>> TableTarget::named_tensors(bool text_only) const {
  const auto key = [&](const char* part) { return io::adapter_key(name, part, text_only); };
  switch (form) {
    case Form::kLowRank:
      if (table->is_embedding) return {{key("lora_embedding_A"), table->a}, {key("lora_embedding_B"), table->b}};
      return {{key("lora_A"), table->a}, {key("lora_B"), table->b}};
    case Form::kRows:
      return {{key("token_adapter.trainable_tokens_delta"), table->rows}};
    case Form::kWhole:
      return {{io::saved_module_key(name, text_only), table->whole}};
  }
  return {};
}

std::vector<TableTarget> tables_of(torch::nn::Module& model) {
  TableTarget embeddings{.name = std::string(kEmbeddings)}, head{.name = std::string(kHead)};
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    if (item.key() == kEmbeddings) embeddings.embedding = std::dynamic_pointer_cast<nn::EmbeddingImpl>(item.value());
    if (auto trained = std::dynamic_pointer_cast<nn::TrainedHead>(item.value())) head.head = std::move(trained);
    if (const auto untied = std::dynamic_pointer_cast<nn::LinearImpl>(item.value()); untied && item.key() == kHead) {
      head.base = untied->weight;
      head.shape = {untied->out_features, untied->in_features};
    }
  }
  if (!embeddings.embedding || !head.head) return {};
  embeddings.base = embeddings.embedding->weight;
  embeddings.shape = embeddings.embedding->slots().front().shape;
  embeddings.padding_id = embeddings.embedding->padding_id;
  if (head.shape.empty()) {
    head.tied = true;
    head.shape = embeddings.shape;
    head.base = embeddings.base;
  }
  return {embeddings, head};
}

void tie_rows(std::vector<TableTarget>& tables, const std::vector<TableTarget>& known) {
  if (!is_tied(known)) return;
  for (TableTarget& table : tables)
    if (table.form == TableTarget::Form::kRows && table.embedding) table.head = known[1].head;
}

std::vector<TableTarget> select_tables(torch::nn::Module& model, const LoraConfig& config, bool text_only) {
  const std::vector<TableTarget> known = tables_of(model);
  std::vector<TableTarget> chosen;
  add_low_rank(known, config, text_only, chosen);
  add_rows(known, config, text_only, chosen);
  add_whole(known, model, config, text_only, chosen);
  tie_rows(chosen, known);
  std::set<std::string> seen;
  for (TableTarget& table : chosen) {
    if (!seen.insert(table.name).second || (table.head && table.embedding && !seen.insert(std::string(kHead)).second))
      throw Error(ErrorKind::kConfig, table.name,
                  " is trained in two ways: it may be in one of target_modules, "
                  "modules_to_save and trainable_token_indices (whose rows a tied head shares), which add_tokens "
                  "adds the new ones to");
    table.table = std::make_shared<nn::TrainedTable>(table.empty_table());
  }
  return chosen;
}

void attach_tables(const std::vector<TableTarget>& tables, const LoraConfig& config) {
  for (const TableTarget& target : tables) {
    nn::TrainedTable& table = *target.table;
    table = target.empty_table();
    const auto device = target.base ? target.base->device() : torch::Device(torch::kCPU);
    if (target.form == TableTarget::Form::kLowRank) {
      make_low_rank(target, config, device);
    } else if (target.form == TableTarget::Form::kRows) {
      table.ids = target.ids;
      table.rows = own_rows(target, target.ids);
    } else {
      table.whole = whole_table(target);
    }
    target.put();
  }
}

std::vector<TableTarget> attached_tables(torch::nn::Module& model) {
  std::vector<TableTarget> found, known = tables_of(model);
  for (TableTarget& target : known) {
    const auto table = target.embedding ? target.embedding->trained : target.head->table();
    if (!table || (!found.empty() && found[0].table == table)) continue;  // rows that a tied head shares
    target.table = std::const_pointer_cast<nn::TrainedTable>(table);
    target.form = table->is_low_rank()    ? TableTarget::Form::kLowRank
                  : table->rows.defined() ? TableTarget::Form::kRows
                                          : TableTarget::Form::kWhole;
    target.ids = table->ids;
    found.push_back(target);
  }
  tie_rows(found, known);
  return found;
}

void detach_tables(torch::nn::Module& model) {
  for (const TableTarget& table : tables_of(model)) table.take_out();
}

}  // namespace bezel::lora
