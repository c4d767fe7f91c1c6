#include "bezel/gemma4/gguf_parts.h"

#include <algorithm>
#include <map>

#include <c10/util/accumulate.h>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/gemma4/parts.h"
#include "bezel/nn/weight_site.h"

namespace bezel::gemma4 {
namespace {

using io::GgufType;
using quant::GgufMix;
using quant::GgufPart;

GgufType gguf_type_of(torch::ScalarType type) {
  return type == torch::kFloat ? GgufType::kF32 : type == torch::kHalf ? GgufType::kF16 : GgufType::kBF16;
}

// What matrices become that are quantized and may not be packed.
GgufType type_from_codes(const ModelConfig& config) {
  return config.dtype == "float32" ? GgufType::kF32 : config.dtype == "float16" ? GgufType::kF16 : GgufType::kBF16;
}

class Lister {
 public:
  Lister(Source& source, const ModelConfig& config, const GgufNames& names)
      : source_(source), config_(config), names_(names) {}

  std::vector<GgufPart> run(std::vector<std::string>& left_out) {
    const Model model = meta_model(config_, torch::kBFloat16);
    nn::for_each_module(*model, [this](const std::string& name, const nn::Module& module) {
      for (const nn::Slot& slot : module.slots()) add_slot(name, slot);
    });
    for (const auto& [canonical, stored] : source_.all())
      if (!stored.taken && is_unused_kv(canonical, config_.text)) add_unused(canonical, stored, left_out);
    return std::move(parts_);
  }

 private:
  void add_slot(const std::string& module, const nn::Slot& slot) {
    const std::string canonical = module + "." + slot.name;
    const auto name = names_(canonical);
    if (!name) return;
    const auto parts = slot.kind == nn::SlotKind::kMatrix
                           ? source_.take_parts(slot.name == "weight" ? module : canonical)
                           : quant::StoredParts{};
    if (quant::is_quantized(parts))
      add_coded(canonical, *name,
                quant::stored_weight(parts, slot.shape, config_.quantization, source_.path() + ": " + canonical));
    else if (const SourceTensor* stored = source_.take(canonical))
      add_floating(canonical, *name, *stored);
    else if (slot.kind != nn::SlotKind::kClipBound)  // those may be missing
      throw Error(source_.path(), ": tensor '", canonical, "' is missing");
  }

  void add_coded(const std::string& canonical, const std::string& name,
                 const std::shared_ptr<const quant::Weight>& weight) {
    parts_.push_back({.canonical = canonical,
                      .name = name,
                      .shape = weight->shape(),
                      .plain = type_from_codes(config_),
                      .rows = quant::rows_of(weight),
                      .evict = [weight] { weight->evict(0); }});
  }

  void add_floating(const std::string& canonical, const std::string& name, const SourceTensor& stored) {
    const Part* part = place_of(canonical).part;
    const bool decoder_norm = part != nullptr && part->kind == PartKind::kDecoder && canonical.ends_with("norm.weight");
    const torch::Tensor tensor = stored.map();
    parts_.push_back({.canonical = canonical,
                      .name = name,
                      .shape = stored.shape.empty() ? std::vector<std::int64_t>{1} : stored.shape,
                      .plain = gguf_type_of(tensor.scalar_type()),
                      .rows = quant::rows_of(stored.shape.empty() ? tensor.reshape({1}) : tensor,
                                             decoder_norm ? config_.text.norm_offset : 0.0),
                      .evict = [stored] { stored.evict(); }});
  }

  // llama.cpp's converter writes them too.
  void add_unused(const std::string& canonical, const SourceTensor& stored, std::vector<std::string>& left_out) {
    const auto name = names_(canonical);
    if (!name) return;  // scales of codes
    if (c10::isFloatingType(stored.map().scalar_type()))
      add_floating(canonical, *name, stored);
    else
      left_out.push_back(stored.stored);
  }

  Source& source_;
  const ModelConfig& config_;
  const GgufNames& names_;
  std::vector<GgufPart> parts_;
};

}  // namespace

std::vector<GgufPart> checkpoint_parts(Source& source, const ModelConfig& config, const GgufNames& names,
                                       std::vector<std::string>& left_out) {
  if (config.text.tie_word_embeddings) source.tie_embeddings_to_head();
  return Lister(source, config, names).run(left_out);
}

GgufMix usual_mix(const std::vector<GgufPart>& parts) {
  std::map<GgufType, std::int64_t> elements;
  for (const GgufPart& part : parts)
    if (part.shape.size() > 1) elements[part.plain] += c10::multiply_integers(part.shape);
  const auto most = std::ranges::max_element(elements, {}, [](const auto& item) { return item.second; });
  if (most == elements.end() || most->first == GgufType::kBF16) return GgufMix::kBF16;
  return most->first == GgufType::kF32 ? GgufMix::kF32 : GgufMix::kF16;
}

}  // namespace bezel::gemma4
