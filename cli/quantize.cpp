#include "bezel/gemma4/quantize.h"

#include <cstdio>
#include <memory>

#include "cli/command.h"

namespace bezel::cli {
namespace {

struct QuantizeOptions {
  std::string model;
  std::string type;
  std::string output;
  std::vector<std::string> skip;
  std::string max_shard_size = "5GB";
  bool single = false;
  bool experts = false;
};

void quantize(const QuantizeOptions& options) {
  const gemma4::QuantizeReport report = gemma4::quantize_checkpoint(
      options.model, options.output,
      {.storage = quant::parse_storage(options.type), .double_quant = !options.single, .skip = options.skip},
      options.experts, parse_bytes("--max-shard-size", options.max_shard_size));
  print_warnings(report.warnings);
  std::printf("%s matrices in %s: %s, before %s\n%s\n", with_commas(report.matrices).c_str(), options.type.c_str(),
              bytes_text(static_cast<double>(report.bytes_after)).c_str(),
              bytes_text(static_cast<double>(report.bytes_before)).c_str(), options.output.c_str());
  if (options.experts) std::printf("experts are quantized: only Bezel reads this checkpoint\n");
}

}  // namespace

void add_quantize(CLI::App& app, int&) {
  auto options = std::make_shared<QuantizeOptions>();
  CLI::App* command = app.add_subcommand("quantize", "Write a checkpoint in 4 or 8 bits, as bitsandbytes reads it");
  command->add_option("--model", options->model, "checkpoint folder")->required();
  command->add_option("--type", options->type, "nf4 or int8")->required()->check(CLI::IsMember({"nf4", "int8"}));
  command->add_option("--output", options->output, "new folder")->required();
  command->add_option("--skip", options->skip, "modules that stay dense, as llm_int8_skip_modules")->delimiter(',');
  command->add_option("--max-shard-size", options->max_shard_size, "such as 5GB, 500MB, 2GiB or a number of bytes")
      ->capture_default_str();
  command->add_flag("--single-quant", options->single, "nf4: block scales in float32 (default: in 8 bits)");
  command->add_flag("--experts", options->experts, "stacked experts too: a form that only Bezel reads");
  command->callback([options] { quantize(*options); });
}

}  // namespace bezel::cli
