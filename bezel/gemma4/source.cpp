#include "bezel/gemma4/source.h"

#include <cmath>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/foreign_name.h"
#include "bezel/io/gguf_projectors.h"
#include "bezel/io/gguf_tower_map.h"
#include "bezel/io/key_map.h"
#include "bezel/io/tensor_io.h"

namespace bezel::gemma4 {
namespace {

using torch::Tensor;

// Pixels of a patch as [channel, row, column] -> [row, column, channel].
Tensor channels_last(const Tensor& weight) { return weight.permute({0, 2, 3, 1}).flatten(1).contiguous(); }

// Of a square patch of so many values in three channels.
std::int64_t side_of(std::int64_t pixels) {
  return static_cast<std::int64_t>(std::lround(std::sqrt(static_cast<double>(pixels) / 3)));
}

// The same of flat ones, in the last dimension.
Tensor flat_channels_last(const Tensor& pixels) {
  const std::int64_t side = side_of(pixels.size(-1));
  return pixels.unflatten(-1, {3, side, side}).movedim(-3, -1).flatten(-3).contiguous();
}

bool are_square(std::int64_t pixels) { return pixels == 3 * side_of(pixels) * side_of(pixels); }

// Positions of all columns and then of all rows -> both of each place.
Tensor by_place(const Tensor& table) { return table.transpose(0, 1).contiguous(); }

Tensor with_channel(const Tensor& weight) { return weight.unsqueeze(1); }

Tensor scalar(const Tensor& bound) { return bound.reshape({}); }

// The inverse of softplus, in float64 so that it costs the last bit of float32 at most.
Tensor before_softplus(const Tensor& scale) {
  const Tensor wide = scale.to(torch::kDouble);
  return (wide + at::log(-at::expm1(-wide))).to(torch::kFloat);
}

/// Gives a tower's tensor of an mmproj file the shape of a checkpoint's; the inverse of plan_mmproj.
void set_form(SourceTensor& tensor) {
  std::vector<std::int64_t>& shape = tensor.shape;
  if (tensor.stored == "v.patch_embd.weight" && shape.size() == 4) {
    tensor.form = channels_last;
    shape = {shape[0], shape[1] * shape[2] * shape[3]};
  } else if (tensor.stored.ends_with(".conv_dw.weight") && shape.size() == 2) {
    tensor.form = with_channel;
    shape = {shape[0], 1, shape[1]};
  } else if (tensor.stored.ends_with(".per_dim_scale.weight")) {
    tensor.form = before_softplus;
  } else if (tensor.stored.ends_with("_min") || tensor.stored.ends_with("_max")) {
    tensor.form = scalar;
    shape.clear();
  }
}

/// The same for the 12B's embedders.
void set_embedder_form(SourceTensor& tensor) {
  std::vector<std::int64_t>& shape = tensor.shape;
  if (tensor.stored == "v.position_embd.weight" && shape.size() == 3) {
    tensor.form = by_place;
    std::swap(shape[0], shape[1]);
  } else if (tensor.stored == "v.patch_embd.weight" || tensor.stored.starts_with("v.patch_norm.1.")) {
    if (!shape.empty() && are_square(shape.back())) tensor.form = flat_channels_last;
  }
}

// Blocks hold neighbors of a row, whose order is another in a model.
void check_form(const SourceTensor& tensor) {
  if (tensor.form != nullptr && tensor.is_packed())
    throw Error(tensor.path(), ": tensor '", tensor.stored, "': got type ", tensor.type_name(),
                ", expected F32, F16 or BF16, as llama.cpp's converter writes it; convert the model anew");
}

}  // namespace

torch::Tensor SourceTensor::map() const {
  const Tensor stored_form =
      gguf_entry.file ? io::map_tensor(gguf_entry.file, *gguf_entry.info) : io::map_tensor(entry.file, *entry.info);
  return form == nullptr ? stored_form : form(stored_form);
}

std::string SourceTensor::type_name() const {
  return std::string(gguf_entry.file ? io::gguf_type_info(gguf_entry.info->type).name
                                     : io::dtype_name(entry.info->dtype));
}

std::int64_t SourceTensor::bytes() const {
  return static_cast<std::int64_t>(gguf_entry.file ? gguf_entry.info->size_bytes
                                                   : entry.info->end_bytes - entry.info->begin_bytes);
}

void SourceTensor::evict() const {
  if (gguf_entry.file)
    gguf_entry.file->evict(*gguf_entry.info);
  else
    entry.file->evict(*entry.info);
}

Source::Source(const std::string& model, const std::string& mmproj) : path_(model), is_gguf_(io::is_gguf_path(model)) {
  if (!is_gguf_) {
    const io::Checkpoint checkpoint = io::Checkpoint::open(model);
    for (const auto& [stored, entry] : checkpoint.entries())
      add(checkpoint.canonical_name(stored), {.stored = stored, .shape = entry.info->shape, .entry = entry});
    return;
  }
  const io::GgufModel gguf = io::GgufModel::open(model, mmproj);
  const bool embedders = gguf.towers() != nullptr && io::are_embedders(*gguf.towers());
  for (const auto& [stored, entry] : gguf.entries()) {
    if (stored == "rope_freqs.weight") continue;  // the config has what it says
    const bool tower = entry.file.get() == gguf.towers();
    auto canonical = !tower      ? io::canonical_gguf_name(stored)
                     : embedders ? io::canonical_gguf_embedder_name(stored)
                                 : io::canonical_gguf_tower_name(stored);
    if (!canonical)
      throw Error(entry.file->path(), ": tensor '", stored, "' has no place in ",
                  !tower      ? "a language model of Gemma"
                  : embedders ? "the embedders of the 12B"
                              : "the towers of Gemma 4");
    SourceTensor tensor{.stored = stored, .shape = entry.info->shape, .gguf_entry = entry};
    if (tower) embedders ? set_embedder_form(tensor) : set_form(tensor);
    check_form(tensor);
    add(std::move(*canonical), std::move(tensor));
  }
}

void Source::add(std::string canonical, SourceTensor tensor) {
  const std::string stored = tensor.stored;
  const auto [place, fresh] = tensors_.emplace(std::move(canonical), std::move(tensor));
  if (!fresh)
    throw Error(path_, ": tensors '", place->second.stored, "' and '", stored,
                "' are two spellings of one tensor; keep one");
}

void Source::tie_embeddings_to_head() {
  const std::string head = "lm_head.", embeddings = "model.language_model.embed_tokens.";
  const auto is_there = [&](const std::string& prefix) {
    const auto place = tensors_.lower_bound(prefix);
    return place != tensors_.end() && place->first.starts_with(prefix);
  };
  if (is_there(embeddings)) return;
  while (is_there(head)) {
    auto node = tensors_.extract(tensors_.lower_bound(head));
    node.key() = embeddings + node.key().substr(head.size());
    tensors_.insert(std::move(node));
  }
}

SourceTensor* Source::take(const std::string& canonical) {
  const auto place = tensors_.find(canonical);
  if (place == tensors_.end()) return nullptr;
  place->second.taken = true;
  return &place->second;
}

quant::StoredParts Source::take_parts(const std::string& module) {
  quant::StoredParts parts;
  if (is_gguf_) return parts;
  const std::string prefix = module + ".";
  for (auto place = tensors_.lower_bound(prefix); place != tensors_.end() && place->first.starts_with(prefix);
       ++place) {
    const std::string suffix = place->first.substr(prefix.size());
    if (!quant::is_part_of_matrix(suffix)) continue;
    place->second.taken = true;
    parts.emplace(suffix, place->second.map());
  }
  return parts;
}

std::vector<std::string> Source::names_of_codes(const std::string& module) const {
  std::vector<std::string> names;
  if (is_gguf_) return names;
  bool coded = false;
  const std::string prefix = module + ".";
  for (auto place = tensors_.lower_bound(prefix); place != tensors_.end() && place->first.starts_with(prefix);
       ++place) {
    const std::string suffix = place->first.substr(prefix.size());
    if (!quant::is_part_of_matrix(suffix)) continue;
    names.push_back(place->first);
    coded = coded || quant::marks_codes(suffix) ||
            (suffix == "weight" && !c10::isFloatingType(io::to_scalar_type(place->second.entry.info->dtype)));
  }
  return coded ? names : std::vector<std::string>{};
}

std::string Source::foreign_name() const {
  if (is_gguf_) return "";
  for (const auto& [canonical, tensor] : tensors_)
    if (const std::string advice = io::foreign_name_advice(tensor.stored); !advice.empty())
      return tensor.path() + ": tensor '" + tensor.stored + "' has " + advice;
  return "";
}

std::vector<std::string> Source::stored_names() const {
  std::vector<std::string> names;
  for (const auto& [canonical, tensor] : tensors_) names.push_back(tensor.stored);
  return names;
}

}  // namespace bezel::gemma4
