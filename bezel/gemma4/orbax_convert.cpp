#include "bezel/gemma4/orbax_convert.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>

#include "bezel/error.h"
#include "bezel/gemma4/config.h"
#include "bezel/gemma4/orbax_config.h"
#include "bezel/gemma4/orbax_map.h"
#include "bezel/gemma4/orbax_tensor.h"
#include "bezel/io/regular_file.h"
#include "bezel/io/zarr.h"

namespace bezel::gemma4 {
namespace {

/// A store with all its arrays, in the order of _METADATA.
struct Arrays {
  std::shared_ptr<const io::ZarrStore> store;
  std::vector<std::shared_ptr<const io::ZarrArray>> all;
  std::vector<std::string> names;  ///< as normal_orbax_name spells them
};

Arrays open_arrays(const std::string& folder) {
  Arrays arrays;
  arrays.store = std::make_shared<const io::ZarrStore>(io::ZarrStore::open(folder));
  std::set<std::string> seen;
  for (const io::ZarrName& name : arrays.store->names()) {
    arrays.all.push_back(std::make_shared<const io::ZarrArray>(io::ZarrArray::open(*arrays.store, name.text())));
    arrays.names.push_back(normal_orbax_name(name.path));
    if (!seen.insert(arrays.names.back()).second)
      throw Error(folder, ": array '", name.text(), "' is there in two spellings; keep one");
  }
  return arrays;
}

/// Scales that Gemma 3 had, for one, would change what the model computes.
void refuse_other_scale(const io::ZarrArray& array, const std::string& folder) {
  const std::string& name = array.name();
  if (!name.ends_with("scale")) return;
  std::size_t num_ones = 0;
  array.read([&](std::size_t, std::span<const std::byte> bytes) {
    const std::vector<std::byte> floats = convert_elements(bytes, array.dtype(), io::DType::kF32);
    for (std::size_t at = 0; at < floats.size(); at += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, floats.data() + at, sizeof value);
      num_ones += value == 1.0f ? 1 : 0;
    }
  });
  if (num_ones != array.num_elements())
    throw Error(folder, ": array '", name, "' is a scale that Gemma 4 has no place for, and ",
                array.num_elements() - num_ones, " of its ", array.num_elements(),
                " numbers are not 1, so leaving it out would change the model");
}

io::Json config_of(const OrbaxOptions& options, const Arrays& arrays) {
  io::Json config;
  if (options.config.empty()) {
    OrbaxShapes shapes;
    for (std::size_t i = 0; i < arrays.all.size(); ++i) shapes[arrays.names[i]] = arrays.all[i]->shape();
    config = orbax_config(shapes, options.model);
  } else {
    config = io::read_json_file(options.config);
  }
  const char* dtype = options.dtype == io::DType::kBF16 ? "bfloat16" : "float32";
  config["dtype"] = dtype;
  for (const char* part : {"text_config", "vision_config", "audio_config"})
    if (config.contains(part) && config[part].is_object()) config[part]["dtype"] = dtype;
  config.erase("torch_dtype");
  return config;
}

ModelConfig checked_config(const io::Json& config, const OrbaxOptions& options) {
  const std::string source = options.config.empty() ? options.model : options.config;
  const ModelConfig read = read_model_config(io::JsonView(config, source));
  if (read.is_unified())
    throw Error(ErrorKind::kConfig, source,
                ": the config of the unified model (12B), whose form in Orbax is not known; ",
                "take its checkpoint of Hugging Face");
  if (read.family != Family::kGemma4) throw Error(ErrorKind::kConfig, source, ": not the config of a Gemma 4");
  if (config.contains("quantization_config") && !config["quantization_config"].is_null())
    throw Error(ErrorKind::kConfig, source, ": key 'quantization_config': expected none, the arrays are not quantized");
  return read;
}

void check_tokenizer(const std::string& folder) {
  if (!io::is_there(folder + "/tokenizer.json"))
    throw Error(ErrorKind::kConfig, folder,
                ": tokenizer.json is not there; --tokenizer takes a folder with the small files ",
                "of Gemma 4 from Hugging Face (tokenizer.json, tokenizer_config.json, processor_config.json)");
}

}  // namespace

OrbaxPlan plan_orbax(const OrbaxOptions& options) {
  if (!options.tokenizer.empty()) check_tokenizer(options.tokenizer);
  const Arrays arrays = open_arrays(options.model);
  OrbaxPlan plan;
  plan.arrays = static_cast<std::int64_t>(arrays.all.size());
  plan.checkpoint = {
      .source = options.tokenizer, .config = config_of(options, arrays), .max_shard_bytes = options.max_shard_bytes};
  const ModelConfig config = checked_config(plan.checkpoint.config, options);
  const OrbaxMap map(arrays.names);
  for (std::size_t i = 0; i < arrays.all.size(); ++i) {
    // The array borrows the store.
    const std::shared_ptr<const io::ZarrArray> array(
        arrays.all[i].get(), [store = arrays.store, owner = arrays.all[i]](const io::ZarrArray*) {});
    auto tensors = map.tensors_of(arrays.names[i], array->shape());
    if (!tensors) {
      refuse_other_scale(*array, options.model);
      plan.unused.push_back(array->name());
      continue;
    }
    plan.rounds = plan.rounds || (array->dtype() == io::DType::kF32 && options.dtype == io::DType::kBF16);
    std::vector<std::string> stored;
    for (const OrbaxTensor& tensor : *tensors)
      stored.push_back(io::stored_tensor_name(tensor.name, options.layout, config.text_only));
    plan.checkpoint.parts.push_back(orbax_part(array, std::move(*tensors), stored, options.dtype));
  }
  return plan;
}

}  // namespace bezel::gemma4
