#include "cli/orbax_base.h"

#include <cstdio>

#include "bezel/error.h"
#include "bezel/gemma4/orbax_once.h"
#include "bezel/io/zarr_store.h"
#include "cli/command.h"

namespace bezel::cli {
namespace {

void refuse_orbax_keys(const train::TrainConfig& config) {
  for (const auto& [key, value] : {std::pair{"tokenizer", config.tokenizer}, {"convert_to", config.convert_to}})
    if (!value.empty())
      throw Error(ErrorKind::kConfig, "key '", key, "': only for a base_model that is a checkpoint of Orbax ",
                  "(_METADATA, manifest.ocdbt), and ", config.base_model, " is none; delete it");
}

}  // namespace

void use_converted_base(train::TrainConfig& config) {
  if (!io::find_orbax_folder(config.base_model)) return refuse_orbax_keys(config);
  if (config.tokenizer.empty() || config.convert_to.empty())
    throw Error(ErrorKind::kConfig, "key 'base_model': ", config.base_model,
                ": a checkpoint of Orbax, which has no tokenizer and whose compressed arrays cannot be mapped. Give "
                "tokenizer: FOLDER (with tokenizer.json) and convert_to: FOLDER, and this command converts it there, "
                "once; or run `bezel convert --model ",
                config.base_model, " --tokenizer FOLDER --output FOLDER` and name its output as base_model");
  const std::string from = config.base_model, to = config.convert_to;
  const auto on_begin = [&](std::int64_t bytes, const std::vector<std::string>& unused) {
    for (const std::string& name : unused)
      std::fprintf(stderr, "warning: array %s is not used: Gemma 4's Hugging Face form has no place for it\n",
                   name.c_str());
    std::fprintf(stderr, "note: %s is a checkpoint of Orbax; converting it to %s, %s\n", from.c_str(), to.c_str(),
                 bytes_text(static_cast<double>(bytes)).c_str());
  };
  if (!gemma4::convert_orbax_once({.model = from, .tokenizer = config.tokenizer, .output = to}, on_begin))
    std::fprintf(stderr, "note: %s is a checkpoint of Orbax; using %s, which was converted from it before\n",
                 from.c_str(), to.c_str());
  // As if it had been named; adapters name a base that other tools can load too.
  config.base_model = config.base_name = to;
  config.tokenizer.clear();
  config.convert_to.clear();
}

}  // namespace bezel::cli
