#include "bezel/train/forward.h"

#include <memory>

#include "bezel/data/new_tokens.h"
#include "bezel/error.h"
#include "bezel/gemma4/model_files.h"
#include "bezel/io/tensor_io.h"
#include "bezel/train/device.h"
#include "bezel/train/new_tokens.h"
#include "bezel/train/use_adapter.h"
#include "cli/command.h"
#include "cli/embeddings_option.h"
#include "cli/mmproj_option.h"

namespace bezel::cli {
namespace {

struct ForwardOptions {
  std::string model;
  std::string mmproj;
  std::string inputs;
  std::string output;
  std::string adapter;
  std::string dtype = "float32";
  std::string storage = "dense";
  std::string device = "cpu";
  bool embeddings_in_int8 = false;
  bool grads = false;
};

void forward(const ForwardOptions& options) {
  const torch::ScalarType dtype = options.dtype == "bfloat16" ? torch::kBFloat16 : torch::kFloat;
  const input::RawInputs inputs = input::read_raw_inputs(options.inputs);
  gemma4::ModelFiles files{options.model, options.mmproj};
  if (!options.adapter.empty())
    files = train::with_rows_for(files, data::tokens_of_adapter(options.model, options.adapter));
  gemma4::LoadedModel loaded = gemma4::load_model(
      files, {dtype,
              train::choose_device(options.device),
              {.storage = quant::parse_storage(options.storage), .quantize_embeddings = options.embeddings_in_int8}});
  print_warnings(loaded.warnings);
  if (options.embeddings_in_int8) check_embeddings_in_int8(loaded.model, options.model);
  if (!options.adapter.empty())
    print_warnings(train::use_adapter(loaded.model, options.adapter).notes);
  else if (options.grads)
    throw Error(ErrorKind::kConfig, "--grads needs --adapter: only adapters have gradients");
  loaded.model->eval();
  std::vector<std::pair<std::string, torch::Tensor>> results;
  const data::Batch batch = loaded.model->make_batch(inputs);
  print_dropped_labels(batch.num_unpredictable);
  for (const auto& [name, tensor] : train::forward_tensors(loaded.model, batch, options.grads))
    results.emplace_back(name, tensor.to(torch::kCPU).contiguous());
  io::save_safetensors(options.output, results);
}

}  // namespace

void add_forward(CLI::App& app, int&) {
  auto options = std::make_shared<ForwardOptions>();
  CLI::App* command = app.add_subcommand("forward", "Raw tensors in, logits, loss and gradients out");
  command->add_option("--model", options->model, "checkpoint folder or GGUF file")->required();
  add_mmproj_option(*command, options->mmproj);
  command->add_option("--inputs", options->inputs, "safetensors file with in.input_ids, in.labels, in.pixel_values …")
      ->required();
  command->add_option("--output", options->output, "safetensors file to write")->required();
  command->add_option("--adapter", options->adapter, "PEFT adapter folder");
  command->add_option("--dtype", options->dtype, "of the arithmetic")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  command->add_option("--storage", options->storage, "of the frozen weights; codes in a checkpoint stay as they are")
      ->check(CLI::IsMember({"dense", "nf4", "int8"}))
      ->capture_default_str();
  add_embeddings_option(*command, options->embeddings_in_int8);
  command->add_option("--device", options->device, "cpu, cuda, cuda:N or auto")->capture_default_str();
  command->add_flag("--grads", options->grads, "also write grad.<adapter key>");
  command->callback([options] { forward(*options); });
}

}  // namespace bezel::cli
