#include "bezel/lora/convert.h"

#include <cstdio>
#include <memory>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "cli/command.h"

namespace bezel::cli {
namespace {

struct Options {
  std::string model;
  std::string adapter;
  std::string layout;
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

void convert(const Options& options) {
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
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert", "Between the key layouts of checkpoints and adapters");
  command->add_option("--model", options->model, "checkpoint folder");
  command->add_option("--adapter", options->adapter, "PEFT adapter folder");
  command->add_option("--layout", options->layout, "nested (`…q_proj.linear.weight`, as released) or flat")
      ->required()
      ->check(CLI::IsMember({"nested", "flat"}));
  command->add_option("--output", options->output, "new folder")->required();
  command->add_option("--max-shard-size", options->max_shard_size, "such as 5GB, 500MB, 2GiB or a number of bytes")
      ->capture_default_str();
  command->callback([options] { convert(*options); });
}

}  // namespace bezel::cli
