#include "bezel/lora/convert.h"

#include <cstdio>
#include <filesystem>
#include <memory>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/io/hub_cache.h"
#include "bezel/io/regular_file.h"
#include "bezel/io/zarr_store.h"
#include "bezel/lora/gguf.h"
#include "bezel/lora/mlx.h"
#include "bezel/lora/uniform_adapter.h"
#include "bezel/quant/gguf_mix.h"
#include "cli/command.h"
#include "cli/convert_orbax.h"
#include "cli/gguf_out.h"
#include "cli/mmproj_option.h"
#include "cli/orbax_out.h"

namespace bezel::cli {
namespace {

struct ConvertOptions {
  std::string model;
  std::string mmproj;
  std::string adapter;
  std::string layout;
  std::string names;
  std::string to;
  std::string type;
  std::string output;
  std::string tokenizer;
  std::string config;
  std::string dtype;
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
  if ((options.adapter.empty() && options.model.empty()) || !options.layout.empty() || !options.names.empty())
    throw Error(ErrorKind::kConfig, "--to gguf takes --model or --adapter, and neither --layout nor --names");
  if (options.adapter.empty())
    return write_gguf_model({.model = options.model,
                             .mmproj = options.mmproj,
                             .adapter = "",
                             .type = options.type,
                             .output = options.output});
  if (!options.type.empty())
    throw Error(ErrorKind::kConfig, "--type: an adapter is written in float32; `bezel merge --to gguf` takes a type");
  std::string architecture;
  if (!options.model.empty())
    architecture = gemma4::read_model_config(options.model).family == gemma4::Family::kGemma3 ? "gemma3" : "gemma4";
  const lora::GgufAdapter made = lora::write_gguf_adapter(options.adapter, architecture, options.output);
  for (const std::string& name : made.left_behind)
    std::fprintf(stderr, "warning: %s stays behind: llama.cpp takes no adapter there\n", name.c_str());
  std::printf("%s layers for %s, %zu left behind\n%s\n", with_commas(made.layers).c_str(), made.architecture.c_str(),
              made.left_behind.size(), options.output.c_str());
}

void refuse_other_flags(const ConvertOptions& options) {
  if (options.adapter.empty() || !options.layout.empty() || !options.names.empty() || !options.type.empty())
    throw Error(ErrorKind::kConfig, "--to ", options.to, " takes --adapter, and neither --layout, --names nor --type");
}

void convert_to_mlx(const ConvertOptions& options) {
  refuse_other_flags(options);
  const lora::MlxAdapter made = lora::write_mlx_adapter(options.adapter, options.output);
  for (const std::string& name : made.left_behind)
    std::fprintf(stderr, "warning: %s stays behind: mlx-lm has the language model alone\n", name.c_str());
  std::printf("%s layers of rank %s, %zu left behind\n%s\n", with_commas(made.layers).c_str(),
              with_commas(made.rank).c_str(), made.left_behind.size(), options.output.c_str());
}

/// The family of classes in transformers of a base that is on this machine.
std::string family_of(const std::string& model) {
  std::error_code error;
  const bool exists = !model.empty() && std::filesystem::exists(model, error);
  const std::string path = exists ? io::find_model(model) + "/config.json" : "";
  if (!exists || !io::is_there(path)) {
    std::fprintf(stderr,
                 "note: the base '%s' is not on this machine; the adapter is written as one of Gemma 4 with towers or "
                 "without them. Name its folder with --model where it is the 12B or a Gemma 3\n",
                 model.c_str());
    return "Gemma4";
  }
  const io::Json json = io::read_json_file(path);
  const std::string type = io::JsonView(json, path).at("model_type").text();
  return type.starts_with("gemma4_unified") ? "Gemma4Unified" : type.starts_with("gemma3") ? "Gemma3" : "Gemma4";
}

// For PEFT from MLX, or from PEFT's own in the released spelling.
void convert_to_peft(const ConvertOptions& options) {
  refuse_other_flags(options);
  if (lora::is_mlx_adapter(options.adapter)) {
    const std::string base = options.model.empty() ? lora::mlx_base_model(options.adapter) : options.model;
    const std::int64_t layers =
        lora::read_mlx_adapter(options.adapter, {.model = base, .family = family_of(base)}, options.output);
    std::printf("%s layers\n%s\n", with_commas(layers).c_str(), options.output.c_str());
    return;
  }
  const lora::Conversion made = lora::convert_adapter(options.adapter, io::KeyLayout::kNested, options.output);
  std::printf("%s of %s tensors renamed\n%s\n", with_commas(made.renamed).c_str(), with_commas(made.tensors).c_str(),
              options.output.c_str());
}

void convert_to_server(const ConvertOptions& options) {
  refuse_other_flags(options);
  const bool sglang = options.to == "sglang";
  const lora::Conversion made = lora::convert_adapter_for_servers(options.adapter, options.output,
                                                                  sglang ? lora::Server::kSglang : lora::Server::kVllm);
  for (const std::string& name : made.left_behind)
    std::fprintf(stderr,
                 "warning: %s stays behind: SGLang takes adapters on attention and MLP of the language model alone\n",
                 name.c_str());
  std::printf("%s of %s tensors renamed, one rank and one scale for all layers\n%s\n",
              with_commas(made.renamed).c_str(), with_commas(made.tensors).c_str(), options.output.c_str());
}

void convert_to_orbax(const ConvertOptions& options) {
  if (options.model.empty() || !options.adapter.empty() || !options.layout.empty() || !options.names.empty() ||
      !options.type.empty() || !options.mmproj.empty())
    throw Error(ErrorKind::kConfig,
                "--to orbax takes --model, a checkpoint folder, and --dtype; `bezel merge --to orbax` ",
                "puts an adapter inside");
  write_orbax_model({.model = options.model, .adapter = "", .dtype = options.dtype, .output = options.output});
}

void convert_to(const ConvertOptions& options) {
  if (options.to == "orbax") return convert_to_orbax(options);
  if (options.to == "gguf") return convert_to_gguf(options);
  if (options.to == "mlx") return convert_to_mlx(options);
  if (options.to == "peft") return convert_to_peft(options);
  convert_to_server(options);
}

void convert_from_orbax(const ConvertOptions& options) {
  if (!options.adapter.empty() || !options.to.empty() || !options.names.empty())
    throw Error(ErrorKind::kConfig, options.model,
                ": a checkpoint of Orbax; with one, convert takes no --adapter, no --to and no --names");
  if (options.tokenizer.empty())
    throw Error(ErrorKind::kConfig, options.model,
                ": a checkpoint of Orbax, which has no tokenizer; give a folder with ",
                "Gemma 4's tokenizer.json with --tokenizer");
  const bool flat = options.layout == "flat";
  convert_orbax({.model = options.model,
                 .tokenizer = options.tokenizer,
                 .config = options.config,
                 .dtype = options.dtype == "float32" ? io::DType::kF32 : io::DType::kBF16,
                 .layout = flat ? io::KeyLayout::kFlat : io::KeyLayout::kNested,
                 .max_shard_bytes = parse_bytes("--max-shard-size", options.max_shard_size)},
                options.output);
  if (flat) warn_of_flat_layout(options.output);
}

/// Flags that only the arrays of Orbax need; --dtype also where they are written.
void refuse_orbax_flags(const ConvertOptions& options) {
  const std::string dtype = options.to == "orbax" ? "" : options.dtype;
  for (const auto& [flag, value] :
       {std::pair{"--tokenizer", options.tokenizer}, {"--config", options.config}, {"--dtype", dtype}})
    if (!value.empty())
      throw Error(ErrorKind::kConfig, flag, ": only for a --model that is a checkpoint of Orbax (_METADATA, ",
                  "manifest.ocdbt)");
}

lora::AdapterNames names_of(const std::string& names) {
  if (names.empty()) return lora::AdapterNames::kAsStored;
  return names == "text" ? lora::AdapterNames::kText : lora::AdapterNames::kMultimodal;
}

void convert(const ConvertOptions& options) {
  if (options.to.empty() && !options.type.empty()) throw Error(ErrorKind::kConfig, "--type: only with --to gguf");
  if (!options.mmproj.empty() && (options.to != "gguf" || !options.adapter.empty()))
    throw Error(ErrorKind::kConfig, "--mmproj: only with --to gguf, of a --model that is a GGUF file");
  if (!options.model.empty() && io::find_orbax_folder(options.model)) return convert_from_orbax(options);
  refuse_orbax_flags(options);
  if (!options.to.empty()) return convert_to(options);
  if (!options.names.empty() && options.adapter.empty())
    throw Error(ErrorKind::kConfig, "--names is of adapters: give one with --adapter");
  if (options.layout.empty() && options.names.empty())
    throw Error(ErrorKind::kConfig, "convert takes --layout, --to, or with --adapter --names");
  if (options.model.empty() == options.adapter.empty())
    throw Error(ErrorKind::kConfig, "convert takes either --model or --adapter");
  const bool flat = options.layout == "flat";
  const io::KeyLayout layout = flat ? io::KeyLayout::kFlat : io::KeyLayout::kNested;
  lora::Conversion conversion;
  if (!options.adapter.empty()) {
    conversion = lora::convert_adapter(options.adapter, layout, options.output, names_of(options.names));
    if (flat) warn_of_flat_adapter(options.output);
  } else {
    print_warnings(gemma4::load_model(options.model, {}).warnings);  // complete, and of the shapes of its config
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
  CLI::App* command = app.add_subcommand(
      "convert", "Between the key layouts of checkpoints and adapters; from Orbax; adapters for other tools");
  command->add_option(
      "--model", options->model,
      "checkpoint folder, also of Orbax; with --to gguf also a GGUF file, or the adapter's base, where it "
      "names none");
  add_mmproj_option(*command, options->mmproj);
  command->add_option("--adapter", options->adapter, "PEFT adapter folder, with --to peft also one of mlx-lm");
  command->add_option("--layout", options->layout, "nested (`…q_proj.linear.weight`, as released) or flat")
      ->check(CLI::IsMember({"nested", "flat"}));
  command
      ->add_option("--names", options->names,
                   "of an adapter's decoder layers: text (`model.layers…`, as trained on GGUF files) or multimodal "
                   "(`model.language_model.layers…`)")
      ->check(CLI::IsMember({"text", "multimodal"}));
  command
      ->add_option(
          "--to", options->to,
          "gguf: an adapter's language layers, or without --adapter the language model, as llama.cpp reads them; of an "
          "adapter also peft (from MLX, or in the released spelling), vllm, sglang and mlx; orbax: a checkpoint folder "
          "as "
          "Google's JAX loader restores it")
      ->check(CLI::IsMember({"gguf", "peft", "vllm", "sglang", "mlx", "orbax"}));
  command
      ->add_option("--type", options->type,
                   "of a model for --to gguf: " + gguf_type_help() + " (default: as it is stored)")
      ->check(CLI::IsMember(quant::gguf_mix_names()));
  command->add_option("--tokenizer", options->tokenizer, "from Orbax: folder with Gemma 4's tokenizer.json");
  command->add_option("--config", options->config,
                      "from Orbax: the model's config.json, where the shapes are not of a released size");
  command
      ->add_option("--dtype", options->dtype,
                   "from Orbax: bfloat16 (default) or float32; with --to orbax (default: as stored)")
      ->check(CLI::IsMember({"bfloat16", "float32"}));
  command->add_option("--output", options->output, "new folder, or with --to gguf the file")->required();
  command->add_option("--max-shard-size", options->max_shard_size, "such as 5GB, 500MB, 2GiB or a number of bytes")
      ->capture_default_str();
  command->callback([options] { convert(*options); });
}

}  // namespace bezel::cli
