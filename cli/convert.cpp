#include "bezel/lora/convert.h"

#include <cstdio>
#include <memory>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/lora/gguf.h"
#include "cli/command.h"

namespace bezel::cli {
namespace {

struct ConvertOptions {
  std::string model;
  std::string adapter;
  std::string layout;
  std::string to;
  std::string output;
  std::string max_shard_size = "5GB";
};

void warn_of_flat_adapter(const std::string& folder) {
  std::fprintf(stderr,
               "warning: %s spells the towers' layers without `.linear`. Bezel reads it; PEFT with released "
               "transformers refuses it, or leaves the towers untrained with no more than a warning. `bezel convert "
               "--layout nested` gives the released spelling.\n",
               folder.c_str());
}

void convert_to_gguf(const ConvertOptions& options) {
  if (options.adapter.empty() || !options.layout.empty())
    throw Error(ErrorKind::kConfig, "--to gguf takes --adapter, and no --layout");
  std::string architecture;
  if (!options.model.empty())
    architecture = gemma4::read_model_config(options.model).family == gemma4::Family::kGemma3 ? "gemma3" : "gemma4";
  const lora::GgufAdapter made = lora::write_gguf_adapter(options.adapter, architecture, options.output);
  for (const std::string& name : made.left_behind)
    std::fprintf(stderr, "warning: %s stays behind: llama.cpp takes no adapter there\n", name.c_str());
  std::printf("%s layers for %s, %zu left behind\n%s\n", with_commas(made.layers).c_str(), made.architecture.c_str(),
              made.left_behind.size(), options.output.c_str());
}

void convert(const ConvertOptions& options) {
  if (!options.to.empty()) return convert_to_gguf(options);
  if (options.layout.empty()) throw Error(ErrorKind::kConfig, "convert takes either --layout or --to");
  if (options.model.empty() == options.adapter.empty())
    throw Error(ErrorKind::kConfig, "convert takes either --model or --adapter");
  const bool flat = options.layout == "flat";
  const io::KeyLayout layout = flat ? io::KeyLayout::kFlat : io::KeyLayout::kNested;
  lora::Conversion conversion;
  if (!options.adapter.empty()) {
    conversion = lora::convert_adapter(options.adapter, layout, options.output);
    if (flat) warn_of_flat_adapter(options.output);
  } else {
    gemma4::load_model(options.model, {});  // complete, and of the shapes that its config says
    conversion = lora::convert_checkpoint(options.model, layout, options.output,
                                          parse_bytes("--max-shard-size", options.max_shard_size));
    if (flat) warn_of_flat_layout(options.output);
  }
  std::printf("%s of %s tensors renamed\n%s\n", with_commas(conversion.renamed).c_str(),
              with_commas(conversion.tensors).c_str(), options.output.c_str());
}

}  // namespace

void add_convert(CLI::App& app, int&) {
  auto options = std::make_shared<ConvertOptions>();
  CLI::App* command =
      app.add_subcommand("convert", "Between the key layouts of checkpoints and adapters; adapters for llama.cpp");
  command->add_option("--model", options->model,
                      "checkpoint folder; with --to gguf the adapter's base, where it names none");
  command->add_option("--adapter", options->adapter, "PEFT adapter folder");
  command->add_option("--layout", options->layout, "nested (`…q_proj.linear.weight`, as released) or flat")
      ->check(CLI::IsMember({"nested", "flat"}));
  command->add_option("--to", options->to, "gguf: an adapter's language layers as llama.cpp reads them")
      ->check(CLI::IsMember({"gguf"}));
  command->add_option("--output", options->output, "new folder, or with --to gguf the file")->required();
  command->add_option("--max-shard-size", options->max_shard_size, "such as 5GB, 500MB, 2GiB or a number of bytes")
      ->capture_default_str();
  command->callback([options] { convert(*options); });
}

}  // namespace bezel::cli
