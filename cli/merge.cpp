#include "bezel/lora/merge.h"

#include <cstdio>
#include <memory>

#include "bezel/data/new_tokens.h"
#include "bezel/error.h"
#include "bezel/gemma4/model_files.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/quant/gguf_mix.h"
#include "bezel/train/new_tokens.h"
#include "cli/command.h"
#include "cli/gguf_out.h"
#include "cli/mmproj_option.h"
#include "cli/orbax_out.h"

namespace bezel::cli {
namespace {

struct MergeArguments {
  std::string model;
  std::string mmproj;
  std::string adapter;
  std::string output;
  std::string dtype;
  std::string to;
  std::string type;
  std::string max_shard_size = "5GB";
  bool requantize = false;
};

torch::ScalarType parse_dtype(const std::string& name) {
  if (name == "float32") return torch::kFloat;
  return name == "float16" ? torch::kHalf : torch::kBFloat16;
}

void print(const MergeArguments& options, const lora::MergeReport& report) {
  std::printf("%s matrices merged", with_commas(report.merged).c_str());
  if (report.from_codes > 0) std::printf(", %s taken out of their codes", with_commas(report.from_codes).c_str());
  std::printf("; %s in %lld file(s)\n", bytes_text(static_cast<double>(report.written.bytes)).c_str(),
              static_cast<long long>(report.written.files));
  if (report.dropped > 0)
    std::printf("left out: codes of %s matrices that the model does not use\n", with_commas(report.dropped).c_str());
  if (report.requantized > 0) {
    const lora::CodingError& coding = report.coding;
    std::printf(
        "%s matrices quantized again: the error this adds is %.2f%% of the weights' norm (worst: %.2f%% in %s), and "
        "%.0f%% of the norm of the adapter's update\n",
        with_commas(report.requantized).c_str(), 100 * coding.error / coding.matrix, 100 * report.worst_error,
        report.worst.c_str(), 100 * coding.error / coding.update);
  }
  std::printf("%s\n", options.output.c_str());
}

void merge_to_gguf(const MergeArguments& options) {
  if (!options.dtype.empty() || options.requantize)
    throw Error(ErrorKind::kConfig, "--to gguf takes --type, and neither --dtype nor --requantize");
  write_gguf_model({.model = options.model,
                    .mmproj = options.mmproj,
                    .adapter = options.adapter,
                    .type = options.type,
                    .output = options.output});
}

void merge_to_orbax(const MergeArguments& options) {
  if (!options.type.empty() || !options.mmproj.empty() || options.requantize)
    throw Error(ErrorKind::kConfig, "--to orbax takes --dtype, and neither --type, --mmproj nor --requantize");
  write_orbax_model(
      {.model = options.model, .adapter = options.adapter, .dtype = options.dtype, .output = options.output});
}

void merge(const MergeArguments& options) {
  if (options.to == "orbax") return merge_to_orbax(options);
  if (!options.to.empty()) return merge_to_gguf(options);
  if (!options.mmproj.empty())
    throw Error(ErrorKind::kConfig, "--mmproj: only with --to gguf, of a --model that is a GGUF file");
  if (!options.type.empty()) throw Error(ErrorKind::kConfig, "--type: only with --to gguf; a checkpoint has --dtype");
  // In float32, so that nothing is rounded before it is added.
  const std::vector<data::AddedToken> tokens = data::tokens_of_adapter(options.model, options.adapter);
  gemma4::LoadedModel loaded =
      gemma4::load_model(train::with_rows_for({options.model}, tokens), {.dtype = torch::kFloat});
  const gemma4::ModelConfig& config = loaded.model->config();
  print_warnings(loaded.warnings);
  const lora::LoadedAdapter adapter = lora::load_adapter(*loaded.model, options.adapter, config.text_only);
  print_warnings(adapter.notes);
  if (adapter.image_attention == "sliding_layers" && config.has_image_attention())
    print_warnings(
        {"the adapter was trained with image_attention: sliding_layers, which no checkpoint can say: "
         "transformers will read images as all_layers, vLLM and llama.cpp as it was trained"});
  lora::MergeOptions merge_options{.untied = !config.text.tie_word_embeddings,
                                   .requantize = options.requantize,
                                   .max_shard_bytes = parse_bytes("--max-shard-size", options.max_shard_size),
                                   .files = data::tokenizer_files(options.model, tokens)};
  if (!options.dtype.empty()) merge_options.dtype = parse_dtype(options.dtype);
  if (!config.dtype.empty()) merge_options.from_codes = parse_dtype(config.dtype);
  if (loaded.layout == io::KeyLayout::kFlat) warn_of_flat_layout(options.output);
  print(options,
        lora::merge_checkpoint(*loaded.model, io::Checkpoint::open(options.model), options.output, merge_options));
}

}  // namespace

void add_merge(CLI::App& app, int&) {
  auto options = std::make_shared<MergeArguments>();
  CLI::App* command = app.add_subcommand("merge", "Base + adapter as a checkpoint, key layout kept, or as a GGUF file");
  command->add_option("--model", options->model, "checkpoint folder; with --to gguf also a GGUF file")->required();
  add_mmproj_option(*command, options->mmproj);
  command->add_option("--adapter", options->adapter, "PEFT adapter folder")->required();
  command->add_option("--output", options->output, "new folder, or with --to gguf a new file")->required();
  command
      ->add_option(
          "--to", options->to,
          "gguf: one file with the merged language model, as llama.cpp reads it; orbax: a folder as Google's JAX "
          "loader restores it")
      ->check(CLI::IsMember({"gguf", "orbax"}));
  command->add_option("--type", options->type, "with --to gguf: " + gguf_type_help() + " (default: as stored)")
      ->check(CLI::IsMember(quant::gguf_mix_names()));
  command
      ->add_option("--dtype", options->dtype,
                   "of the tensors written (default: each as it was stored; from codes, what "
                   "config.json says)")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  command->add_option("--max-shard-size", options->max_shard_size, "such as 5GB, 500MB, 2GiB or a number of bytes")
      ->capture_default_str();
  command->add_flag("--requantize", options->requantize,
                    "keep a quantized base quantized: merged matrices go back into codes, which rounds them again");
  command->callback([options] { merge(*options); });
}

}  // namespace bezel::cli
