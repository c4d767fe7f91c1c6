#include "cli/merge_parts.h"

#include "bezel/data/new_tokens.h"
#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/lora/merge_gguf.h"
#include "cli/command.h"

namespace bezel::cli {

std::int64_t merge_parts(const gemma4::ModelFiles& files, const std::string& adapter, const std::string& format,
                         const std::vector<quant::GgufPart*>& parts) {
  if (adapter.empty()) return 0;
  if (const auto tokens = data::tokens_of_adapter(files.model, adapter); !tokens.empty())
    throw Error(ErrorKind::kConfig, adapter, ": adds tokens ('", tokens[0].content, "' …), which --to ", format,
                " cannot merge: merge into a checkpoint first (no --to), and convert that");
  gemma4::LoadedModel loaded = gemma4::load_model(files, {.dtype = torch::kFloat});
  print_warnings(lora::load_adapter(*loaded.model, adapter, loaded.model->config().text_only).notes);
  return lora::merge_into(*loaded.model, parts);
}

}  // namespace bezel::cli
