#include "bezel/gemma4/source.h"

#include "bezel/error.h"
#include "bezel/io/foreign_name.h"
#include "bezel/io/key_map.h"
#include "bezel/io/tensor_io.h"

namespace bezel::gemma4 {

torch::Tensor SourceTensor::map() const {
  return gguf_entry.file ? io::map_tensor(gguf_entry.file, *gguf_entry.info) : io::map_tensor(entry.file, *entry.info);
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

Source::Source(const std::string& model) : path_(model), is_gguf_(io::is_gguf_path(model)) {
  if (!is_gguf_) {
    const io::Checkpoint checkpoint = io::Checkpoint::open(model);
    for (const auto& [stored, entry] : checkpoint.entries())
      add(io::canonical_tensor_name(stored), {.stored = stored, .shape = entry.info->shape, .entry = entry});
    return;
  }
  const io::GgufModel gguf = io::GgufModel::open(model);
  for (const auto& [stored, entry] : gguf.entries()) {
    if (stored == "rope_freqs.weight") continue;  // the config has what it says
    auto canonical = io::canonical_gguf_name(stored);
    if (!canonical)
      throw Error(entry.file->path(), ": tensor '", stored, "' has no place in a language model of Gemma");
    add(std::move(*canonical), {.stored = stored, .shape = entry.info->shape, .gguf_entry = entry});
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
