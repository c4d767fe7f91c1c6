#include "bezel/gemma4/orbax_check.h"

#include <map>
#include <set>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/gemma4/model.h"
#include "bezel/io/key_map.h"
#include "bezel/nn/weight_site.h"

namespace bezel::gemma4 {
namespace {

using Shapes = std::map<std::string, std::vector<std::int64_t>>;

std::string text_of_shape(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

/// Planned tensors by their canonical names.
Shapes planned_shapes(const OrbaxPlan& plan, const std::string& source) {
  Shapes shapes;
  for (const io::CheckpointPart& part : plan.checkpoint.parts)
    for (const io::TensorSpec& tensor : part.tensors)
      if (!shapes.emplace(io::canonical_tensor_name(tensor.name), tensor.shape).second)
        throw Error(source, ": two arrays hold the tensor '", tensor.name, "'");
  return shapes;
}

void check_slot(const nn::Slot& slot, const std::string& name, const Shapes& shapes, const std::string& source) {
  const auto found = shapes.find(name);
  if (found == shapes.end()) {
    if (slot.kind == nn::SlotKind::kClipBound) return;
    throw Error(source, ": no array holds the tensor '", name, "' of shape ", text_of_shape(slot.shape),
                ", which the model's config demands");
  }
  if (found->second != slot.shape)
    throw Error(source, ": the array of tensor '", name, "' makes it ", text_of_shape(found->second),
                ", the model's config makes it ", text_of_shape(slot.shape));
}

}  // namespace

void check_orbax_plan(const OrbaxPlan& plan, const std::string& source) {
  const ModelConfig config = read_model_config(io::JsonView(plan.checkpoint.config, source));
  const Shapes shapes = planned_shapes(plan, source);
  Model model = meta_model(config, torch::kBFloat16);
  std::set<std::string> expected;
  nn::for_each_module(*model, [&](const std::string& module_name, const nn::Module& module) {
    for (const nn::Slot& slot : module.slots()) {
      const std::string name = module_name + "." + slot.name;
      expected.insert(name);
      check_slot(slot, name, shapes, source);
    }
  });
  for (const auto& [name, shape] : shapes)
    if (expected.count(name) == 0 && !is_unused_kv(name, config.text))
      throw Error(source, ": the tensor '", name,
                  "' has no place in the model that its config describes; give the right ",
                  "config.json with --config");
}

}  // namespace bezel::gemma4
