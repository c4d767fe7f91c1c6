#include "bezel/report/run_estimate.h"

#include <algorithm>
#include <iterator>

#include "bezel/gemma4/model_files.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/train/device.h"
#include "bezel/train/memory.h"
#include "bezel/train/new_tokens.h"
#include "bezel/train/rank_setup.h"
#include "bezel/train/run_check.h"

namespace bezel::report {
namespace {

lora::Selection selection_of(gemma4::Model& model, const train::TrainConfig& config, const train::BatchPlan& batches,
                             std::vector<std::string>& notes) {
  const bool text_only = model->config().text_only;
  if (!config.init_adapter.empty()) {
    lora::LoadedAdapter adapter = lora::load_adapter(*model, config.init_adapter, text_only);
    notes.insert(notes.end(), adapter.notes.begin(), adapter.notes.end());
    return adapter.selection;
  }
  return lora::select_targets(*model, config.lora, {text_only, batches.has_media()});
}

// The mean sample, as often as the steps see one.
train::Work work_of(const DataCheck& check, const RunEstimate& run, const data::MediaSettings& media) {
  const auto whole_passes = static_cast<double>(run.total_steps) / static_cast<double>(run.steps_per_epoch);
  const auto scaled = [&](std::size_t of_all) {
    const double mean =
        static_cast<double>(of_all) / static_cast<double>(std::max<std::size_t>(1, check.lengths.size()));
    return static_cast<std::int64_t>(mean * static_cast<double>(run.num_train) * whole_passes);
  };
  const double computed = run.shares_prefixes ? 1.0 - run.shared_tokens : 1.0;
  const auto samples = static_cast<std::int64_t>(static_cast<double>(run.num_train) * whole_passes);
  train::Work work{.samples = std::max<std::int64_t>(1, samples),
                   .tokens = static_cast<std::int64_t>(computed * static_cast<double>(scaled(check.tokens()))),
                   .label_tokens = scaled(check.label_tokens)};
  for (const input::MediaKind kind : input::kMediaKinds)
    work.encoder_rows[input::encoder_kind(kind)] +=
        scaled(check.media[kind].soft_tokens) * media.rows_per_soft_token(kind);
  return work;
}

}  // namespace

io::Json memory_json(const train::MemoryNeed& need, bool on_device) {
  io::Json json = {{"process", need.process},         {"weights", need.weights}, {"adapters", need.adapters},
                   {"activations", need.activations}, {"loss", need.loss},       {"total", need.total()}};
  if (on_device) {
    json["device"] = need.resident();
    json["host_tables"] = need.host_tables;
  }
  return json;
}

RunEstimate estimate_run(const train::TrainConfig& config, const train::BatchPlan& batches, const DataCheck& check) {
  const gemma4::ModelConfig model_config = gemma4::read_model_config(train::model_files(config));
  const torch::ScalarType dtype = config.dtype == "float32" ? torch::kFloat : torch::kBFloat16;
  gemma4::Model model = gemma4::meta_model(model_config, dtype);
  std::vector<std::string> notes = model_config.warnings;
  if (std::string note = train::frozen_experts_note(model_config, config); !note.empty())
    notes.push_back(std::move(note));
  if (config.preference.uses_reference())
    notes.emplace_back("before the first step the reference reads every answer once, which is not in the time below");
  const train::PrefixPlan& prefixes = batches.prefix_plan();
  if (!prefixes.shares && !prefixes.note.empty()) notes.push_back(prefixes.note);
  if (const std::string& note = batches.eval_prefix_plan().note; !note.empty()) notes.push_back(note);
  std::ranges::move(train::check_learns(config, batches.total_steps()), std::back_inserter(notes));
  const lora::Selection selection = selection_of(model, config, batches, notes);
  RunEstimate run{.towers = lora::with_frozen_experts(selection.counts(), *model),
                  .num_train = batches.num_train(),
                  .num_eval = batches.num_eval(),
                  .packs = batches.packs(),
                  .num_rows = batches.num_rows(),
                  .steps_per_epoch = batches.steps_per_epoch(),
                  .total_steps = batches.total_steps(),
                  .shares_prefixes = batches.prefix_plan().shares,
                  .shared_tokens = batches.prefix_plan().saved,
                  .available_bytes = train::available_memory_bytes(),
                  .notes = std::move(notes)};
  train::check_towers_see_data(run.towers, batches);
  const torch::Device device = train::planned_device(config.device);
  if (std::string hint = train::node_hint(device); !hint.empty()) run.notes.push_back(std::move(hint));
  run.recompute = train::wants_recompute(config, model_config, batches, device, run.notes);
  const data::MediaSettings& media = batches.train_data().options().media;
  input::PerKind<bool> kinds;
  for (const input::MediaKind kind : input::kMediaKinds)
    kinds[input::encoder_kind(kind)] = kinds[input::encoder_kind(kind)] || check.media[kind].items > 0;
  run.memory = train::memory_need(model, selection.parameters(),
                                  {.storage = {.storage = quant::parse_storage(config.storage),
                                               .skip = config.quantize_skip,
                                               .quantize_embeddings = config.quantize_embeddings},
                                   .media = kinds,
                                   .recompute = run.recompute,
                                   .largest = train::largest_micro_batch(config, batches),
                                   .on_device = !device.is_cpu(),
                                   .embeddings_on_host = config.embeddings_on == "host"});
  run.on_device = !device.is_cpu();
  run.work = work_of(check, run, media);
  run.flops = train::training_flops(model, selection, run.work, run.recompute);
  run.flops_per_s = train::product_flops_per_s(dtype);
  return run;
}

}  // namespace bezel::report
