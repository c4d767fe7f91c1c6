#include "bezel/lora/merge.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/error.h"
#include "bezel/io/tensor_io.h"
#include "bezel/lora/expert_keys.h"
#include "bezel/lora/norms.h"
#include "bezel/lora/tables.h"
#include "bezel/nn/dora.h"
#include "bezel/nn/grouped_product.h"
#include "bezel/nn/weight_site.h"
#include "bezel/quant/quant_scheme.h"

namespace bezel::lora {
namespace {

using torch::Tensor;

constexpr std::int64_t kSliceElements = std::int64_t{1} << 22;

// What the model has made of a stored matrix.
struct Loaded {
  std::shared_ptr<const quant::Weight> weight;
  const nn::Adapter* adapter = nullptr;
  std::shared_ptr<const nn::TrainedTable> table{};  // of embeddings and head
  bool anew = false;                                // a new head beside the embeddings
  Tensor norm{};                                    // the trained weight of a norm

  bool is_trained() const { return adapter != nullptr || table != nullptr || norm.defined(); }
};

// The stored tensors of one module's matrix.
struct StoredMatrix {
  std::string stored;  // name of its "weight", there or not; of a stack of experts its own
  quant::StoredParts parts;
  std::vector<std::pair<std::string, io::Checkpoint::Entry>> entries;
  Loaded loaded;  // without weight where the model has no such module

  bool in_codes() const { return quant::is_quantized(parts); }
  /// Whether the model has rows that the file lacks.
  bool is_grown() const {
    const auto stored = parts.find("weight");
    return loaded.weight && !in_codes() && stored != parts.end() && loaded.weight->shape().size() == 2 &&
           stored->second.size(0) < loaded.weight->shape()[0];
  }
  void evict() const {
    for (const auto& [name, entry] : entries) entry.file->evict(*entry.info);
  }
};

std::map<std::string, Loaded> loaded_matrices(torch::nn::Module& model) {
  std::map<std::string, Loaded> found;
  for (const nn::WeightSite& site : nn::weight_sites(model)) {
    const std::optional<nn::Adapter>* adapter = site.adapter();
    found[site.name()] = {site.weight(), adapter != nullptr && *adapter ? &**adapter : nullptr};
  }
  for (const TableTarget& target : attached_tables(model)) {
    found[target.name].weight = target.base;
    found[target.name].table = target.table;
  }
  for (const NormTarget& target : attached_norms(model)) found[target.name].norm = target.weight.detach();
  return found;
}

// Whether what is trained lets the head differ from embeddings that it is tied to.
bool parts_head(torch::nn::Module& model) {
  const std::vector<TableTarget> known = tables_of(model);
  return known.size() == 2 && known[1].tied && known[0].embedding->trained != known[1].head->table();
}

// Where the name of a matrix's part goes over from the module to the part; npos when it is no part of a matrix.
std::size_t part_begin(const std::string& name) {
  for (std::size_t dot = name.rfind('.'); dot != std::string::npos && dot > 0; dot = name.rfind('.', dot - 1))
    if (quant::is_part_of_matrix(std::string_view(name).substr(dot + 1))) return dot + 1;
  return std::string::npos;
}

// Rows of a matrix at a time.
std::int64_t slice_rows(const Tensor& matrix) {
  return std::max<std::int64_t>(1, kSliceElements / std::max<std::int64_t>(1, matrix.size(1)));
}

bool is_finite(const Tensor& given) {
  const Tensor matrix = given.flatten(0, -2);
  const std::int64_t rows = matrix.size(0), step = slice_rows(matrix);
  for (std::int64_t begin = 0; begin < rows; begin += step)
    if (!matrix.narrow(0, begin, std::min(step, rows - begin)).isfinite().all().item<bool>()) return false;
  return true;
}

void check_finite(const Tensor& made, const std::string& stored) {
  if (!is_finite(made))
    throw Error("tensor '", stored, "': holds NaN or Inf once it is merged as ", c10::toString(made.scalar_type()),
                "; are checkpoint and adapter sound?");
}

// Rows [begin, end) of a table as the model has it, with what is trained of it inside, float32.
Tensor table_rows(const quant::Weight& weight, const nn::TrainedTable* table, std::int64_t begin, std::int64_t end) {
  Tensor made = weight.rows(at::arange(begin, end, at::TensorOptions(at::kLong)), torch::kFloat).clone();
  if (table != nullptr) nn::put_into_rows(*table, made, begin);
  return made;
}

class Merger {
 public:
  Merger(torch::nn::Module& model, const io::Checkpoint& checkpoint, const MergeOptions& options)
      : options_(options), loaded_(loaded_matrices(model)) {
    for (const auto& [stored, entry] : checkpoint.entries()) sort_in(stored, checkpoint.canonical_name(stored), entry);
    if (parts_head(model)) add_own_head();
    const auto coded = [](const auto& item) { return item.second.in_codes(); };
    if (options.requantize && std::ranges::none_of(matrices_, coded))
      throw Error(ErrorKind::kConfig, "--requantize: ", checkpoint.folder(), " is not quantized");
  }

  std::vector<io::CheckpointPart> parts() {
    std::vector<io::CheckpointPart> parts;
    for (const auto& [stored, entry] : others_) parts.push_back(kept(stored, entry));
    for (const auto& [module, matrix] : matrices_) add(module, matrix, parts);
    return parts;
  }

  const MergeReport& report() const { return report_; }

 private:
  void sort_in(const std::string& stored, const std::string& canonical, const io::Checkpoint::Entry& entry) {
    const std::size_t begin = part_begin(canonical);
    if (begin == std::string::npos && loaded_.contains(canonical)) {  // a dense stack of experts
      StoredMatrix& stack = matrices_[canonical];
      stack.stored = stored;
      stack.parts.emplace("weight", io::map_tensor(entry.file, *entry.info));
      stack.entries.emplace_back(stored, entry);
      stack.loaded = loaded_.at(canonical);
      return;
    }
    if (begin == std::string::npos) {
      others_.emplace_back(stored, entry);
      return;
    }
    const std::string module = canonical.substr(0, begin - 1), suffix = canonical.substr(begin);
    StoredMatrix& matrix = matrices_[module];
    matrix.stored = stored.substr(0, stored.size() - suffix.size()) + "weight";
    matrix.parts.emplace(suffix, io::map_tensor(entry.file, *entry.info));
    matrix.entries.emplace_back(stored, entry);
    const auto found = loaded_.find(module);
    if (found != loaded_.end()) matrix.loaded = found->second;
    if (is_expert_matrix(module)) matrix.stored = stored.substr(0, stored.size() - suffix.size() - 1);
  }

  // The tied table once more, as the head.
  void add_own_head() {
    const StoredMatrix& embeddings = matrices_.at("model.language_model.embed_tokens");
    StoredMatrix& head = matrices_["lm_head"];
    const std::shared_ptr<const nn::TrainedTable> table = loaded_["lm_head"].table;
    head = embeddings;
    head.stored = "lm_head.weight";
    head.loaded.table = table;
    head.loaded.anew = true;
    report_.untied = true;
  }

  void add(const std::string& module, const StoredMatrix& matrix, std::vector<io::CheckpointPart>& parts) {
    const bool adapted = matrix.loaded.is_trained(), coded = matrix.in_codes();
    report_.merged += adapted;
    if (coded && options_.requantize && module.ends_with("embed_tokens_per_layer") && !options_.files.empty())
      throw Error(ErrorKind::kConfig, "--requantize: ", matrix.stored,
                  " is quantized and gets rows for new tokens, which are not quantized; leave it out");
    if (!adapted && !matrix.loaded.anew && !matrix.is_grown() && (!coded || options_.requantize)) {
      for (const auto& [stored, entry] : matrix.entries) parts.push_back(kept(stored, entry));
    } else if (matrix.loaded.norm.defined()) {
      parts.push_back(norm(matrix));
    } else if (coded && !matrix.loaded.weight) {
      ++report_.dropped;
    } else if (coded && options_.requantize && matrix.loaded.adapter != nullptr) {
      ++report_.requantized;
      parts.push_back(requantized(module, matrix));
    } else {
      report_.from_codes += coded;
      const bool is_table = matrix.loaded.table || matrix.loaded.anew || matrix.is_grown();
      parts.push_back(is_table ? table(matrix) : dense(matrix));
    }
  }

  // A tensor that no adapter touches.
  io::CheckpointPart kept(const std::string& stored, const io::Checkpoint::Entry& entry) const {
    const torch::ScalarType type = io::to_scalar_type(entry.info->dtype);
    if (!options_.dtype || !c10::isFloatingType(type) || type == *options_.dtype) return io::copied_part(entry, stored);
    return {{{stored, io::to_dtype(*options_.dtype), entry.info->shape}},
            [stored, entry, dtype = *options_.dtype](io::TensorSink& sink) {
              io::put_tensor(sink, stored, io::map_tensor(entry.file, *entry.info).to(dtype));
              entry.file->evict(*entry.info);
            }};
  }

  // A norm's weight as it was trained.
  io::CheckpointPart norm(const StoredMatrix& matrix) const {
    const torch::ScalarType dtype = options_.dtype.value_or(matrix.parts.at("weight").scalar_type());
    return {{{matrix.stored, io::to_dtype(dtype), matrix.loaded.norm.sizes().vec()}},
            [&matrix, dtype](io::TensorSink& sink) {
              const Tensor made = matrix.loaded.norm.to(dtype);
              if (!made.isfinite().all().item<bool>())
                throw Error("tensor '", matrix.stored, "': the trained weight holds NaN or Inf as ",
                            c10::toString(dtype));
              io::put_tensor(sink, matrix.stored, made);
              matrix.evict();
            }};
  }

  // A matrix with its adapter inside, or one that is dequantized.
  io::CheckpointPart dense(const StoredMatrix& matrix) const {
    const bool coded = matrix.in_codes();
    const torch::ScalarType as_stored = coded ? options_.from_codes : matrix.parts.at("weight").scalar_type();
    const torch::ScalarType dtype = options_.dtype.value_or(as_stored);
    return {{{matrix.stored, io::to_dtype(dtype), matrix.loaded.weight->shape()}},
            [&matrix, coded, dtype](io::TensorSink& sink) {
              const Tensor base = coded ? matrix.loaded.weight->dequantize(torch::kFloat) : matrix.parts.at("weight");
              const nn::Adapter* adapter = matrix.loaded.adapter;
              const Tensor made = adapter != nullptr ? add_update(base, *adapter, dtype) : base.to(dtype);
              check_finite(made, matrix.stored);
              io::put_tensor(sink, matrix.stored, made);
              matrix.evict();
            }};
  }

  // Embeddings, head or a table of more rows than its file has, a few rows at a time.
  io::CheckpointPart table(const StoredMatrix& matrix) const {
    const torch::ScalarType as_stored =
        matrix.in_codes() ? options_.from_codes : matrix.parts.at("weight").scalar_type();
    const torch::ScalarType dtype = options_.dtype.value_or(as_stored);
    return {{{matrix.stored, io::to_dtype(dtype), matrix.loaded.weight->shape()}},
            [&matrix, dtype](io::TensorSink& sink) {
              const std::vector<std::int64_t> shape = matrix.loaded.weight->shape();
              const std::int64_t step = std::max<std::int64_t>(1, kSliceElements / shape[1]);
              const io::TensorSink::PutPiece put = sink.put_pieces(matrix.stored);
              std::size_t offset_bytes = 0;
              for (std::int64_t begin = 0; begin < shape[0]; begin += step) {
                const std::int64_t end = std::min(begin + step, shape[0]);
                const Tensor made =
                    table_rows(*matrix.loaded.weight, matrix.loaded.table.get(), begin, end).to(dtype).contiguous();
                check_finite(made, matrix.stored);
                put(offset_bytes, made.const_data_ptr(), made.nbytes());
                offset_bytes += made.nbytes();
              }
              matrix.evict();
            }};
  }

  io::CheckpointPart requantized(const std::string& module, const StoredMatrix& matrix) {
    const quant::QuantScheme form = quant::form_of(matrix.parts, "matrix '" + matrix.stored + "'");
    const std::string prefix =
        is_expert_matrix(module) ? matrix.stored + "." : matrix.stored.substr(0, matrix.stored.rfind('.') + 1);
    io::CheckpointPart part;
    for (const quant::PartLayout& layout : quant::layout_of(form, matrix.loaded.weight->shape()))
      part.tensors.push_back({prefix + layout.suffix, io::to_dtype(layout.dtype), layout.shape});
    part.write = [this, &matrix, module, form, prefix](io::TensorSink& sink) {
      const Tensor base = matrix.loaded.weight->dequantize(torch::kFloat);
      const Tensor merged = add_update(base, *matrix.loaded.adapter, torch::kFloat);
      const quant::StoredParts codes = quant::encode(form, merged.to(form.value_dtype));
      for (const auto& [suffix, tensor] : codes) io::put_tensor(sink, prefix + suffix, tensor);
      count_error(module, merged - base, merged, codes);
      matrix.evict();
    };
    return part;
  }

  void count_error(const std::string& module, const Tensor& update, const Tensor& merged,
                   const quant::StoredParts& codes) {
    const quant::StoredFormat format{.method = quant::StoredFormat::Method::kBitsandbytes};
    const auto weight = quant::stored_weight(codes, merged.sizes().vec(), format, module);
    const auto norm = [](const Tensor& tensor) { return tensor.norm().item<double>(); };
    const double error = norm(weight->dequantize(torch::kFloat) - merged), size = norm(merged);
    CodingError& sum = report_.coding;
    sum.error = std::hypot(sum.error, error);
    sum.matrix = std::hypot(sum.matrix, size);
    sum.update = std::hypot(sum.update, norm(update));
    if (size > 0 && error / size >= report_.worst_error) {
      report_.worst_error = error / size;
      report_.worst = module;
    }
  }

  MergeOptions options_;
  std::map<std::string, Loaded> loaded_;
  std::map<std::string, StoredMatrix> matrices_;  // by canonical module name; parts refer to them
  std::vector<std::pair<std::string, io::Checkpoint::Entry>> others_;
  MergeReport report_;
};

void set_dtype(io::Json& config, torch::ScalarType dtype) {
  const std::string name = dtype == torch::kFloat ? "float32" : dtype == torch::kHalf ? "float16" : "bfloat16";
  for (const char* key : {"dtype", "torch_dtype"})
    if (config.contains(key)) config[key] = name;
  for (const char* part : {"text_config", "vision_config", "audio_config"})
    if (config.contains(part) && config[part].is_object()) set_dtype(config[part], dtype);
}

void set_vocab_size(io::Json& config, torch::nn::Module& model) {
  io::Json& text = config.contains("text_config") && config["text_config"].is_object() ? config["text_config"] : config;
  for (const nn::WeightSite& site : nn::weight_sites(model)) {
    const bool is_embedding = site.module == "model.language_model.embed_tokens";
    if (!site.weight() || (!is_embedding && !site.module.ends_with(".embed_tokens_per_layer"))) continue;
    text[is_embedding ? "vocab_size" : "vocab_size_per_layer_input"] = site.weight()->shape()[0];
  }
}

}  // namespace

Tensor merged_rows(const Tensor& base, const nn::Adapter& adapter, std::int64_t begin) {
  const at::NoGradGuard no_grad;
  Tensor made = adapter.whole_b().narrow(0, begin, base.size(0)).mm(adapter.whole_a()).mul_(adapter.scale);
  made.add_(base.to(torch::kFloat));
  if (adapter.magnitude.defined()) nn::scale_rows(made, adapter.magnitude, begin);
  return made;
}

Tensor add_update(const Tensor& base, const nn::Adapter& adapter, torch::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  if (base.dim() == 3) {
    Tensor stack = at::empty(base.sizes(), base.options().dtype(dtype));
    for (std::int64_t expert = 0; expert < base.size(0); ++expert)
      stack[expert].copy_(add_update(base[expert], nn::adapter_of_expert(adapter, expert, base.size(0)), dtype));
    return stack;
  }
  const std::int64_t rows = base.size(0), step = slice_rows(base);
  Tensor out = at::empty(base.sizes(), base.options().dtype(dtype));
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    const std::int64_t count = std::min(step, rows - begin);
    out.narrow(0, begin, count).copy_(merged_rows(base.narrow(0, begin, count), adapter, begin));
  }
  return out;
}

MergeReport merge_checkpoint(torch::nn::Module& model, const io::Checkpoint& checkpoint, const std::string& output,
                             const MergeOptions& options) {
  if (options.requantize && options.dtype)
    throw Error(ErrorKind::kConfig, "--requantize keeps the form of the base: it cannot go with --dtype");
  const at::NoGradGuard no_grad;
  Merger merger(model, checkpoint, options);
  io::NewCheckpoint made{.source = checkpoint.folder(),
                         .config = io::read_json_file(checkpoint.folder() + "/config.json"),
                         .parts = merger.parts(),
                         .max_shard_bytes = options.max_shard_bytes,
                         .files = options.files};
  if (options.untied || merger.report().untied) io::untie_head(made.config);
  if (!options.requantize)
    made.config.erase("quantization_config");
  else if (io::Json& form = made.config["quantization_config"]; form.contains("bnb_4bit_quant_storage"))
    form["bnb_4bit_quant_storage"] = "uint8";  // what encode() makes
  if (options.dtype) set_dtype(made.config, *options.dtype);
  if (!options.files.empty()) set_vocab_size(made.config, model);
  const io::WrittenCheckpoint written = io::write_checkpoint(made, output);
  MergeReport report = merger.report();
  report.written = written;
  return report;
}

}  // namespace bezel::lora
