#include "bezel/train/bench.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include <ATen/Parallel.h>
#include <ATen/Utils.h>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/generate/bench.h"
#include "bezel/io/json.h"
#include "bezel/train/device.h"
#include "bezel/train/residency.h"
#include "cli/allocator.h"
#include "cli/command.h"
#include "cli/embeddings_option.h"
#include "cli/shared_tokens.h"

namespace bezel::cli {
namespace {

struct BenchOptions {
  std::string model;
  std::string inputs;
  std::vector<std::string> towers{"language"};
  std::string dtype = "bfloat16";
  std::string storage = "dense";
  bool embeddings_in_int8 = false;
  std::string device = "cpu";
  std::int64_t tokens = 512;
  std::int64_t label_tokens = 128;
  std::int64_t steps = 5;
  std::int64_t decode = 0;
  std::int64_t rank = 16;
  int threads = 0;
  std::int64_t row_tokens = 2048;
  bool packing = false;
  bool share_prefixes = false;
  bool recompute = false;
  std::vector<std::string> evict{"encoders", "decoder", "head"};
  bool json = false;
};

using Json = nlohmann::ordered_json;

void print_training(const BenchOptions& options, const train::BenchResult& result, Json& out) {
  out["gradient_checkpointing"] = options.recompute;
  out["start_s"] = result.start_s;
  out["step_s"] = result.step_s;
  out["tokens_per_s"] = result.tokens_per_s;
  out["losses"] = result.losses;
  out["peak_bytes"] = result.peak_bytes;
  out["peak_anonymous_bytes"] = result.peak_anonymous_bytes;
  if (options.json) return;
  std::printf("%lld tokens, %lld labels: %.1f tokens/s\n", out["tokens"].get<long long>(),
              out["label_tokens"].get<long long>(), result.tokens_per_s);
  if (options.share_prefixes) std::printf("%s", shared_tokens_text(out).c_str());
  for (std::size_t i = 0; i < result.step_s.size(); ++i)
    std::printf("step %zu: %.3f s, loss %.4f\n", i + 1, result.step_s[i], result.losses[i]);
  std::printf("peak memory %s, %s of it no mapped file; first forward after %.2f s\n",
              bytes_text(static_cast<double>(result.peak_bytes)).c_str(),
              bytes_text(static_cast<double>(result.peak_anonymous_bytes)).c_str(), result.start_s);
}

void print_decoding(const BenchOptions& options, const generate::DecodeTimes& times, Json& out) {
  out["decode"] = {{"prompt_tokens", times.prompt_tokens},
                   {"prefill_s", times.prefill_s},
                   {"token_s", times.token_s},
                   {"median_s", times.median_s},
                   {"tokens_per_s", times.tokens_per_s()},
                   {"bytes_per_token", times.bytes_per_token},
                   {"bytes_per_s", times.bytes_per_s()},
                   {"memory_bytes_per_s", times.memory_bytes_per_s}};
  if (options.json) return;
  std::printf("prompt of %lld tokens read in %.3f s\n", static_cast<long long>(times.prompt_tokens), times.prefill_s);
  std::printf("decoding: %.4f s a token, %.2f tokens/s\n", times.median_s, times.tokens_per_s());
  std::printf("%s of weights a token: %s/s, %.0f%% of the %s/s that memory gives\n",
              bytes_text(static_cast<double>(times.bytes_per_token)).c_str(), bytes_text(times.bytes_per_s()).c_str(),
              100.0 * times.bytes_per_s() / times.memory_bytes_per_s, bytes_text(times.memory_bytes_per_s).c_str());
}

train::BenchResult train_steps(const BenchOptions& options, gemma4::Model& model,
                               const std::vector<input::Batch>& batches) {
  const gemma4::ModelConfig& config = model->config();
  lora::LoraConfig lora{.rank = options.rank, .alpha = 2.0 * static_cast<double>(options.rank), .towers = {}};
  for (const std::string& tower : options.towers) lora.towers.push_back(lora::parse_tower(tower));
  lora::Selection selection = lora::select_targets(*model, lora, {config.text_only, batches[0].kinds()});
  lora::attach(selection, lora);
  model->set_recompute(options.recompute);
  const auto evicts = [&](const char* part) { return std::ranges::find(options.evict, part) != options.evict.end(); };
  return train::bench_training(model, selection, batches, options.steps,
                               {evicts("encoders"), evicts("decoder"), evicts("head")});
}

void bench(const BenchOptions& options) {
  if (options.threads > 0) at::set_num_threads(options.threads);
  if (options.label_tokens > options.tokens)
    throw Error(ErrorKind::kConfig, "--label-tokens ", options.label_tokens, " is more than --tokens ", options.tokens);
  const torch::ScalarType dtype = options.dtype == "float32" ? torch::kFloat : torch::kBFloat16;
  torch::manual_seed(0);
  keep_freed_memory();
  const torch::Device device = train::choose_device(options.device);
  if (options.decode > 0 && !device.is_cpu())
    throw Error(ErrorKind::kConfig, "--decode: times the CPU alone; leave --device ", options.device, " out");
  gemma4::Model model = gemma4::load_model(options.model, {dtype,
                                                           device,
                                                           {.storage = quant::parse_storage(options.storage),
                                                            .quantize_embeddings = options.embeddings_in_int8}})
                            .model;
  if (options.embeddings_in_int8) check_embeddings_in_int8(model, options.model);
  const input::RawInputs raw = options.inputs.empty() ? train::synthetic_inputs(model->config(), options.tokens,
                                                                                options.label_tokens, /*seed=*/0)
                                                      : input::read_raw_inputs(options.inputs);
  std::vector<input::Batch> batches{model->make_batch(raw)};
  if (options.packing || options.share_prefixes)
    batches = train::packed_batches(train::row_samples(raw, batches[0]), options.row_tokens, options.share_prefixes);
  if (options.decode > 0 &&
      (options.packing || options.share_prefixes || batches[0].input_ids.size(0) != 1 || batches[0].has_padding))
    throw Error(ErrorKind::kConfig,
                "--decode takes --inputs of one row without padding, and no --packing or --share-prefixes");
  std::int64_t tokens = 0, label_tokens = 0, computed = 0;
  for (const input::Batch& batch : batches) {
    tokens += batch.num_tokens;
    label_tokens += batch.num_labels();
    computed += batch.input_ids.numel();
    print_dropped_labels(batch.num_unpredictable);
  }
  Json out;
  out["tokens"] = tokens;
  out["label_tokens"] = label_tokens;
  out["micro_batches"] = batches.size();
  if (options.share_prefixes)
    add_shared_tokens(true, 1.0 - static_cast<double>(computed) / static_cast<double>(tokens), out);
  out["dtype"] = options.dtype;
  out["storage"] = options.storage;
  out["quantize_embeddings"] = options.embeddings_in_int8 ? "int8" : "none";
  out["device"] = device.str();
  out["threads"] = at::get_num_threads();
  if (options.steps > 0) print_training(options, train_steps(options, model, batches), out);
  if (options.decode > 0) {
    const train::PinnedDecoder pinned(model);
    print_decoding(options, generate::bench_decoding(model, batches[0], options.decode), out);
  }
  if (options.json) std::printf("%s\n", out.dump().c_str());
}

}  // namespace

void add_bench(CLI::App& app, int&) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand("bench", "Time training steps or decoding on given or synthetic tensors");
  command->add_option("--model", options->model, "checkpoint folder or GGUF file")->required();
  CLI::Option* inputs = command->add_option("--inputs", options->inputs,
                                            "safetensors file with in.input_ids, in.labels, in.pixel_values …");
  command->add_option("--lora_towers,--lora-towers", options->towers, "language, vision, audio, projectors, experts")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--dtype", options->dtype, "of the arithmetic")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  command->add_option("--storage", options->storage, "of the frozen weights; codes in a checkpoint stay as they are")
      ->check(CLI::IsMember({"dense", "nf4", "int8"}))
      ->capture_default_str();
  add_embeddings_option(*command, options->embeddings_in_int8);
  command->add_option("--device", options->device, "of training steps: cpu, cuda, cuda:N or auto")
      ->capture_default_str();
  command->add_option("--tokens", options->tokens, "length of synthetic input")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  command->add_option("--label-tokens", options->label_tokens, "of them, at the end, labelled")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--steps", options->steps, "of training; with --decode only where given")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--decode", options->decode, "tokens to generate after the input")->check(CLI::Range(1, 100000));
  command->add_option("--rank", options->rank, "of the adapters")->check(CLI::Range(1, 4096))->capture_default_str();
  command->add_option("--threads", options->threads, "0: as many as there are cores")->check(CLI::Range(0, 4096));
  command->add_flag("--packing", options->packing,
                    "rows of --inputs side by side, without their padding, one update for all");
  command
      ->add_flag("--share-prefixes,--share_prefixes", options->share_prefixes,
                 "the same, and what rows begin alike by computed once")
      ->needs(inputs);
  command->add_option("--max-seq-length", options->row_tokens, "of a packed row, which is a micro-batch")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  command->add_flag("--gradient-checkpointing", options->recompute, "run each layer again in the backward pass");
  command
      ->add_option("--evict", options->evict, "mapped weights that a step evicts: none, or of encoders, decoder, head")
      ->delimiter(',')
      ->check(CLI::IsMember({"none", "encoders", "decoder", "head"}))
      ->capture_default_str();
  command->add_flag("--json", options->json, "one JSON line");
  command->callback([options, command] {
    if (options->decode > 0 && command->count("--steps") == 0) options->steps = 0;
    bench(*options);
  });
}

}  // namespace bezel::cli
