#include "bezel/train/run.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>

#include <ATen/Parallel.h>
#include <ATen/Utils.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include "bezel/error.h"
#include "bezel/gemma4/model_files.h"
#include "bezel/io/file_watch.h"
#include "bezel/io/manifest.h"
#include "bezel/io/sha256.h"
#include "bezel/io/torn_map.h"
#include "bezel/kernels/simd/tile_units.h"
#include "bezel/lora/adapter_io.h"
#include "bezel/lora/file_names.h"
#include "bezel/train/batch_plan.h"
#include "bezel/train/cost_model.h"
#include "bezel/train/data_loader.h"
#include "bezel/train/device.h"
#include "bezel/train/early_save.h"
#include "bezel/train/eval_answers.h"
#include "bezel/train/intervals.h"
#include "bezel/train/new_tokens.h"
#include "bezel/train/objective.h"
#include "bezel/train/output.h"
#include "bezel/train/preference_objective.h"
#include "bezel/train/random_state.h"
#include "bezel/train/rank_setup.h"
#include "bezel/train/reference_pass.h"
#include "bezel/train/residency.h"
#include "bezel/train/residual_file.h"
#include "bezel/train/resolve_config.h"
#include "bezel/train/run_check.h"
#include "bezel/train/sample_log.h"
#include "bezel/train/shared_memory.h"
#include "bezel/train/soft_tokens.h"

namespace bezel::train {
namespace {

// In the order in which the run that was saved had them: the norm of all gradients depends on it.
lora::Selection adapt(gemma4::Model& model, const TrainConfig& config, const BatchPlan& batches,
                      const std::optional<ResumePoint>& resume, std::vector<std::string>& notes) {
  const bool text_only = model->config().text_only;
  if (config.init_adapter.empty()) {
    lora::Selection selection = lora::select_targets(*model, config.lora, {text_only, batches.has_media()});
    lora::attach(selection, config.lora, resume.has_value());
    return selection;
  }
  lora::LoadedAdapter loaded = lora::load_adapter(*model, resume ? resume->folder : config.init_adapter, text_only);
  notes.insert(notes.end(), loaded.notes.begin(), loaded.notes.end());
  if (const auto now = gemma4::image_attention_name(model->config().text.image_attention);
      !loaded.image_attention.empty() && loaded.image_attention != now)
    notes.push_back("init_adapter was trained with image_attention: " + loaded.image_attention + ", and goes on with " +
                    std::string(now));
  for (const lora::Target& target : loaded.selection.targets) {
    if (target.stack != nullptr && config.lora.dropout > 0)
      throw Error(ErrorKind::kConfig, "lora_dropout: got ", config.lora.dropout,
                  " beside adapted experts (init_adapter), whose input cannot be dropped out; write lora_dropout: 0");
    target.adapter()->dropout = config.lora.dropout;
  }
  for (const lora::TableTarget& table : loaded.selection.tables)
    if (table.table->is_low_rank() && !table.table->is_embedding) table.table->dropout = config.lora.dropout;
  return loaded.selection;
}

// By which rule an adapter was trained to read images; "" where the folder is gone or does not say.
std::string image_attention_of(const std::string& adapter) {
  const std::filesystem::path path = std::filesystem::path(adapter) / lora::kAdapterConfig;
  std::error_code error;
  if (adapter.empty() || !std::filesystem::exists(path, error)) return "";
  return lora::read_adapter_config(path.string(), {.saved_modules = true}).image_attention;
}

// Images are read as the config says, else as the adapter that the run starts from was trained, else as the model's
// own config says.
gemma4::ModelConfig read_model(const TrainConfig& config) {
  gemma4::ModelConfig model = gemma4::read_model_config(model_files(config));
  gemma4::choose_image_attention(
      model, config.image_attention.empty() ? image_attention_of(config.init_adapter) : config.image_attention);
  return model;
}

// Files of the adapter say which rule of ImageAttention it learned, where there are several.
lora::AdapterBase base_of(const TrainConfig& config, const gemma4::ModelConfig& model) {
  lora::AdapterBase base{config.base_name.empty() ? config.base_model : config.base_name, model.architecture()};
  if (model.has_image_attention()) base.image_attention = gemma4::image_attention_name(model.text.image_attention);
  return base;
}

TrainerOptions trainer_options(const TrainConfig& config, const BatchPlan& batches) {
  TrainerOptions options;
  options.total_steps = batches.total_steps();
  options.steps_per_epoch = batches.steps_per_epoch();
  options.max_grad_norm = config.max_grad_norm;
  options.seed = static_cast<std::uint64_t>(config.seed);
  options.optimizer = make_optimizer_settings(config);
  const Schedule schedule = make_schedule(config, options.total_steps);
  options.learning_rate = [schedule](std::int64_t step) { return schedule.rate(step); };
  const Intervals intervals = make_intervals(config, batches.total_steps(), batches.steps_per_epoch());
  options.logging_steps = intervals.logging;
  options.eval_steps = intervals.eval;
  options.first_eval = intervals.first_eval;
  options.save_steps = intervals.save;
  options.save_best = intervals.save_best;
  options.reduce_in_bfloat16 = config.reduce_dtype == "bfloat16";
  options.stopping = {config.metric_for_best_model, config.early_stopping_patience, config.early_stopping_threshold};
  return options;
}

std::vector<std::string> make_warnings(const TrainConfig& config, const BatchPlan& batches) {
  std::vector<std::string> warnings = check_learns(config, batches.total_steps());
  if (const std::string why = kernels::simd::tile_units_fault(); !why.empty())
    warnings.push_back("the processor's tile units (AMX) are not used by Bezel: " + why);
  for (const data::Dataset* data : {&batches.train_data(), batches.eval_data()})
    if (data != nullptr) std::ranges::move(data->left_out_notes(), std::back_inserter(warnings));
  return warnings;
}

// What is asked of evaluations needs some.
void check_evaluates(const TrainConfig& config, const BatchPlan& batches) {
  if (batches.num_eval() > 0) return;
  std::string_view key = key_needing_evaluation(config);
  if (key.empty() && config.eval_generate) key = "eval_generate";
  if (key.empty()) return;
  throw Error(ErrorKind::kConfig, key,
              ": no sample is held out, so nothing is evaluated; val_set_size: 0.1 holds out a ",
              "tenth, eval_file names a file of them");
}

RunPlan make_plan(const lora::Selection& selection, const gemma4::Model& model, const BatchPlan& batches,
                  torch::Device device) {
  RunPlan plan;
  plan.towers = lora::with_frozen_experts(selection.counts(), *model);
  plan.data = batches.train_data().report();
  plan.num_samples = batches.num_train();
  plan.num_eval_samples = batches.num_eval();
  plan.num_packed_rows = batches.packs() ? batches.num_rows() : 0;
  plan.steps_per_epoch = batches.steps_per_epoch();
  plan.total_steps = batches.total_steps();
  plan.device = device.str();
  return plan;
}

RunFacts make_facts(const TrainConfig& config, const BatchPlan& batches, torch::Device device) {
  RunFacts facts{.config = config_facts(config), .inputs = base_facts(config.base_model, config.mmproj), .machine = {}};
  if (!config.chat_template.empty()) facts.inputs["chat_template"] = io::sha256_file(config.chat_template);
  facts.inputs["train_file"] = batches.train_data().fingerprint();
  if (batches.eval_data() != nullptr) facts.inputs["eval_file"] = batches.eval_data()->fingerprint();
  facts.machine = {
      {"device", device.str()},
      {"threads", std::to_string(at::get_num_threads())},
      {"LibTorch", TORCH_VERSION},
      {"CPU", at::get_cpu_capability() + (kernels::simd::tile_products() != nullptr ? ", tile units" : "")}};
  return facts;
}

// Files that are read or mapped during the run.
io::FileWatch watch_inputs(const TrainConfig& config, const BatchPlan& batches) {
  io::FileWatch watch;
  for (const std::string& path : base_files(config.base_model, config.mmproj)) watch.add(path);
  const auto add = [&](const data::SampleFiles& files) {
    for (std::size_t i = 0; i < files.num_files(); ++i) watch.add(files.file(i).path);
  };
  add(batches.train_data().files());
  if (batches.eval_data() != nullptr) add(batches.eval_data()->files());
  return watch;
}

/// One call of run_training, step by step.
class Run {
 public:
  Run(const TrainConfig& given, const RunEvents& events, ProcessGroup& group)
      : group_(group),
        wanted_(config_of_rank(given, group)),
        config_(resolve_config(wanted_)),
        events_(events),
        device_(choose_device(config_.device)),
        model_config_(read_model(config_)),
        batches_(std::make_shared<const BatchPlan>(config_, model_config_)),
        predictions_(config_, *batches_),
        feed_(batches_, config_, events.on_left_out, group.share()),
        warnings_(make_warnings(config_, *batches_)),
        output_(config_, group.is_first()) {
    choose_threads(config_, group_);
    torch::manual_seed(static_cast<std::uint64_t>(config_.seed));
    watch_ = watch_inputs(config_, *batches_);
    state_.facts = make_facts(wanted_, *batches_, device_);  // as the user wrote it
    check_inputs_alike(state_.facts, group_);
    if (group_.size() > 1) state_.facts.machine["ranks"] = std::to_string(group_.size());
    notes_ = config_.notes;
    for (const PrefixPlan& plan : {batches_->prefix_plan(), batches_->eval_prefix_plan()})
      if (!plan.note.empty()) notes_.push_back(plan.note);
    if (group_.size() > 1) notes_.push_back(ranks_note(config_, group_));
    if (std::string hint = node_hint(device_); group_.size() == 1 && !hint.empty()) notes_.push_back(std::move(hint));
    check_evaluates(config_, *batches_);
    if (config_.eval_generate) answers_.emplace(config_, *batches_);
    if (config_.log_samples) sample_log_.emplace(batches_->train_data());
    if (asks_for_evaluation(config_) && batches_->num_eval() == 0)
      notes_.push_back("no sample is held out, so nothing is evaluated; val_set_size: 0.1 holds out a tenth");
    if (!config_.init_adapter.empty())
      notes_.push_back("rank, alpha, layers and what is trained beside them are those of init_adapter " +
                       config_.init_adapter);
    resume_ = find_resume_point(config_, output_.run_id(), warnings_);
    check_resume_alike(resume_, group_);
    if (resume_) is_same_run_ = check_same_run(*resume_, state_.facts, config_.force_resume, warnings_);
    if (!is_same_run_) resume_->state.run_id.clear();
    if (resume_ && config_.image_attention.empty())
      gemma4::choose_image_attention(model_config_, image_attention_of(resume_->folder));
  }

  RunResult train() {
    load_base();
    if (!make_reference()) {
      RunResult none;
      none.summary.stopped = true;
      return none;
    }
    load_adapters();
    TrainerOptions options = trainer_options(config_, *batches_);
    options.check_inputs = [this] {
      if (early_save_) early_save_->forbid();
      io::throw_if_torn();
      watch_.check();
    };
    const std::unique_ptr<Objective> objective = make_objective();
    Trainer trainer(*model_, selection_, *objective, std::move(options), group_);
    if (resume_) restore(trainer);
    check_adapters_alike(trainer.optimizer().parameters(), group_);  // and nobody reads the folder any more
    output_.start({batches_->total_steps(), batches_->steps_per_epoch()}, resume_);
    if (sample_log_ && group_.is_first())
      sample_log_->begin((std::filesystem::path(config_.output_dir) / "samples.jsonl").string(),
                         trainer.state().steps_done);
    if (events_.on_start) events_.on_start(plan(trainer.state().steps_done));
    // What is newest from here on must be of the run as it is now.
    if (!is_same_run_) save(trainer, trainer.state(), gather_residuals(group_, trainer.residuals()));
    RunResult result;
    tell_saturation(trainer.state().steps_done);
    if (resume_)
      guarded([this] { predictions_.read_before(); });
    else
      tell_predictions(&SamplePrediction::before);
    if (model_config_.text.num_experts > 0) load_meter_.emplace(model_);
    if (group_.size() > 1 && group_.is_first() && events_.should_stop)
      early_save_.emplace(events_.should_stop, [&] { save_early(trainer); });
    result.summary = trainer.run(source(trainer), trainer_events(trainer));
    early_save_.reset();
    tell_expert_load(trainer.state().steps_done);
    load_meter_.reset();
    group_.barrier();  // until checkpoints are complete
    if (config_.load_best_model_at_end && !result.summary.stopped) load_best(trainer, result.summary);
    guarded([&] { tell_saturation(trainer.state().steps_done); });
    if (sample_log_) guarded([&] { sample_log_->finish(); });
    if (!result.summary.stopped) tell_predictions(&SamplePrediction::after);
    result.adapter = output_.finish(trainer.state(), result.summary, trained(trainer));
    result.problems = problems_;
    // The adapter is there, but what the run should go on from is not.
    if (save_error_) throw Error(*save_error_);
    if (best_error_) throw Error(*best_error_);
    return result;
  }

 private:
  void load_base() {
    const torch::ScalarType dtype = config_.dtype == "float32" ? torch::kFloat : torch::kBFloat16;
    const auto codes = share_codes(config_, group_, notes_);
    const gemma4::LoadedModel loaded =
        gemma4::load_model(model_files(config_), {dtype,
                                                  device_,
                                                  {.storage = quant::parse_storage(config_.storage),
                                                   .skip = config_.quantize_skip,
                                                   .quantize_embeddings = config_.quantize_embeddings},
                                                  config_.embeddings_on == "host",
                                                  codes.get()});
    model_ = loaded.model;
    model_->set_image_attention(model_config_.text.image_attention);
    warnings_.insert(warnings_.end(), loaded.warnings.begin(), loaded.warnings.end());
    if (std::string note = frozen_experts_note(model_config_, config_); !note.empty())
      notes_.push_back(std::move(note));
    model_->set_soft_token_cache(
        make_soft_token_cache(config_, state_.facts, batches_->total_steps() > batches_->steps_per_epoch()));
  }

  /// What the model says before it is trained, from the file beside the run or computed now; false when stopped.
  bool make_reference() {
    if (!config_.preference.uses_reference()) return true;
    reference_.emplace(group_.is_first() ? reference_path(config_) : "",
                       reference_facts(config_, state_.facts, *batches_), batches_->num_answers());
    reference_->share(group_);
    const std::vector<std::int64_t> missing = of_share(missing_samples(*batches_, *reference_), group_);
    if (!any_rank(group_, !missing.empty())) return true;
    std::error_code error;
    if (!config_.init_adapter.empty() && !std::filesystem::exists(config_.init_adapter, error))
      throw Error(ErrorKind::kConfig, reference_path(config_), ": lacks the reference's answers to ", missing.size(),
                  " samples, and init_adapter ", config_.init_adapter,
                  ", which is the reference, is not there any more");
    // No adapter is attached yet: the model is its base.
    const bool starts_from_adapter = !config_.init_adapter.empty();
    if (starts_from_adapter) lora::load_adapter(*model_, config_.init_adapter, model_->config().text_only);
    const bool done =
        compute_reference(model_, device_, feed_, {missing, events_.should_stop, events_.on_reference}, *reference_);
    if (starts_from_adapter) lora::detach_all(*model_);
    watch_.check();
    if (group_.size() == 1) return done;
    reference_->share(group_);
    reference_->save();
    return !any_rank(group_, !done);
  }

  std::unique_ptr<Objective> make_objective() {
    if (!config_.preference.uses_preferences())
      return std::make_unique<SupervisedObjective>(
          model_, device_, residency_->observer(),
          SupervisedOptions{config_.label_smoothing_factor, config_.neftune_noise_alpha});
    return std::make_unique<PreferenceObjective>(model_, device_, config_.preference,
                                                 reference_ ? &*reference_ : nullptr, residency_->observer());
  }

  void load_adapters() {
    selection_ = adapt(model_, config_, *batches_, resume_, notes_);
    check_towers_see_data(selection_.counts(), *batches_);
    if (config_.preference.uses_preferences() && !selection_.tables.empty())
      throw Error(ErrorKind::kConfig, "objective: '", selection_.tables[0].name,
                  "' is trained too (target_modules, modules_to_save or init_adapter), which objective: sft alone ",
                  "can do; leave embeddings and head out");
    // How much memory is free may have changed; what a run does may not.
    state_.recompute = resume_ && !config_.gradient_checkpointing
                           ? resume_->state.recompute
                           : wants_recompute(config_, model_config_, *batches_, device_, notes_);
    residency_.emplace(model_);
    model_->set_recompute(state_.recompute);
    base_ = base_of(config_, model_config_);
  }

  /// The feed's batches. If one cannot be made, what was learned before it is saved first, as on a signal.
  BatchSource source(Trainer& trainer) {
    BatchSource source = feed_.source(trainer.state().steps_done);
    const auto saving_work = [this, &trainer, steps_before = trainer.state().steps_done](auto make) {
      return [this, &trainer, steps_before, make](std::int64_t idx) {
        try {
          return make(idx);
        } catch (const Error&) {
          if (early_save_) early_save_->forbid();
          if (trainer.state().steps_done > steps_before) save_work(trainer);
          throw;
        }
      };
    };
    source.train = saving_work([this, train = source.train](std::int64_t idx) {
      if (early_save_) early_save_->allow();  // until check_inputs()
      std::vector<data::Batch> batches = together(group_, [&] { return train(idx); });
      if (sample_log_) sample_log_->add(idx + 1, batches, group_);
      return batches;
    });
    source.eval = saving_work(source.eval);
    if (answers_) source.exact_match = [this] { return answers_->exact_match(model_, residency_->observer(), group_); };
    return source;
  }

  // The newest checkpoint may be of this update already, and have more than can be collected now.
  void save_work(Trainer& trainer) {
    if (trainer.state().steps_done != saved_steps_) save(trainer, trainer.state());
    guarded([&] { output_.finish(trainer.state(), trainer.summary(), trained(trainer)); });
  }

  // Of a checkpoint that is gone or damaged the last update is what there is, and the run ends as one that failed.
  void load_best(Trainer& trainer, TrainSummary& summary) {
    const std::optional<BestEval> best = trainer.state().best;
    try {
      if (!best)
        throw Error(ErrorKind::kDiverged, "no evaluation had a finite ", metric_name(config_.metric_for_best_model));
      if (best->step != trainer.state().steps_done) {
        const std::string folder = output_.checkpoint_path(best->step);
        io::check_manifest(folder);
        restore_parameters(folder, selection_);
      }
      summary.best_loaded = best;
    } catch (const Error& error) {
      best_error_.emplace(error.kind(), "load_best_model_at_end: ", error.what(), "; the adapter in ",
                          config_.output_dir, " is that of the last update");
    }
  }

  void restore(Trainer& trainer) {
    restore_tensors(resume_->folder, selection_, trainer.optimizer());
    restore_residuals(resume_->folder, group_, trainer.residuals());
    trainer.restore(resume_->state.trainer);
    restore_random_states(io::JsonView(resume_->state.random, resume_->folder + "/training_state.json", "random"),
                          device_);
  }

  void tell_saturation(std::int64_t step) {
    if (events_.on_saturation)
      events_.on_saturation(step, measure_saturation(model_, feed_.media_samples(), device_, residency_->observer()));
  }

  void tell_expert_load(std::int64_t step) {
    if (!load_meter_) return;
    const std::vector<LayerLoad> layers = load_meter_->take();
    if (layers.empty()) return;
    output_.add(step, layers);
    if (events_.on_expert_load) events_.on_expert_load(step, layers);
    told_load_ = true;
  }

  void tell_predictions(std::string SamplePrediction::*answer) {
    if (predictions_.empty()) return;
    predictions_.ask(model_, answer, events_.should_stop, residency_->observer());
    io::throw_if_torn();
    guarded([this] { predictions_.write(); });
    if (events_.on_predictions) events_.on_predictions(predictions_.all());
  }

  // A failure to write predictions must not stop training.
  void guarded(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      problems_.push_back(error.what());
    }
  }

  RunPlan plan(std::int64_t steps_done) {
    RunPlan plan = make_plan(selection_, model_, *batches_, device_);
    plan.config = config_;
    plan.notes = std::move(notes_);
    plan.warnings = std::move(warnings_);
    plan.steps_done = steps_done;
    plan.ranks = group_.size();
    return plan;
  }

  Trained trained(Trainer& trainer) const { return {selection_, base_, trainer.optimizer()}; }

  // The checkpoint of the last update, on EarlySave's thread: no event. What cannot be saved is tried again by save().
  void save_early(Trainer& trainer) {
    TrainingState state = state_;
    state.trainer = trainer.state();
    state.random = random_states(device_);
    if (state.trainer.steps_done == saved_steps_) return;
    try {
      output_.save_checkpoint(state, trained(trainer));
    } catch (const Error&) {
      return;
    }
  }

  // A full disk may have free space again at the next interval, so training goes on. Residuals are those of all
  // processes; a checkpoint without them goes on from zeros.
  void save(Trainer& trainer, const TrainerState& trainer_state, const NamedTensors& residuals = {}) {
    state_.trainer = trainer_state;
    state_.random = random_states(device_);
    try {
      Trained parts = trained(trainer);
      parts.residuals = &residuals;
      const std::string folder = output_.save_checkpoint(state_, parts);
      save_error_.reset();
      saved_steps_ = trainer_state.steps_done;
      if (events_.on_save) events_.on_save(folder);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kIo) throw;
      save_error_.emplace(error);
      if (events_.on_save_failed) events_.on_save_failed(error.what());
    }
  }

  TrainerEvents trainer_events(Trainer& trainer) {
    TrainerEvents inner;
    inner.on_step = [this](const StepReport& report) {
      output_.add(report);
      if (events_.on_step) events_.on_step(report);
      if (!told_load_) tell_expert_load(report.step);
    };
    inner.on_eval = [this](const EvalReport& report) {
      output_.add(report);
      if (events_.on_eval) events_.on_eval(report);
    };
    inner.on_save = [this, &trainer](const TrainerState& state) {
      tell_expert_load(state.steps_done);
      save(trainer, state, gather_residuals(group_, trainer.residuals()));
    };
    inner.should_stop = events_.should_stop;
    return inner;
  }

  ProcessGroup& group_;
  const TrainConfig wanted_;
  const TrainConfig config_;
  const RunEvents& events_;
  torch::Device device_;
  gemma4::ModelConfig model_config_;
  std::shared_ptr<const BatchPlan> batches_;
  SamplePredictions predictions_;
  std::optional<EvalAnswers> answers_;  // where evaluations let the model answer
  std::optional<SampleLog> sample_log_;
  DataLoader feed_;
  std::vector<std::string> notes_, warnings_;
  OutputFolder output_;
  io::FileWatch watch_;
  TrainingState state_;
  std::optional<ResumePoint> resume_;
  bool is_same_run_ = true;
  gemma4::Model model_{nullptr};
  std::optional<ReferenceLogps> reference_;
  std::optional<Residency> residency_;  // once adapters are attached
  lora::Selection selection_;
  lora::AdapterBase base_;
  std::optional<ExpertLoadMeter> load_meter_;  // of a mixture, while it trains
  bool told_load_ = false;
  std::int64_t saved_steps_ = 0;  // by the newest checkpoint
  std::optional<EarlySave> early_save_;
  std::optional<Error> save_error_;  // of the newest save
  std::optional<Error> best_error_;
  std::vector<std::string> problems_;
};

}  // namespace

RunResult run_training(const TrainConfig& config, const RunEvents& events, ProcessGroup& group) {
  return Run(config, events, group).train();
}

}  // namespace bezel::train
