#include "bezel/train/run_check.h"

#include <algorithm>

#include "bezel/error.h"

namespace bezel::train {
namespace {

constexpr double kDefaultRatio = 0.03;

std::string counted_updates(std::int64_t count) {
  return std::to_string(count) + (count == 1 ? " update" : " updates");
}

std::int64_t warmup_of(const TrainConfig& config, std::int64_t total_steps) {
  if (config.lr_scheduler == ScheduleKind::kConstant) return 0;
  if (config.warmup_steps) return *config.warmup_steps;
  if (!config.warmup_ratio && total_steps < kFewUpdates) return 0;
  const double ratio = config.warmup_ratio.value_or(kDefaultRatio);
  return std::min(warmup_steps_from_ratio(ratio, total_steps), std::max<std::int64_t>(0, total_steps - 1));
}

void check_warmup_ends(const TrainConfig& config, std::int64_t total_steps) {
  if (config.lr_scheduler == ScheduleKind::kConstant || !config.warmup_steps) return;
  if (*config.warmup_steps == 0 || *config.warmup_steps < total_steps) return;
  throw Error(ErrorKind::kConfig, "warmup_steps ", *config.warmup_steps, ": the run has ", counted_updates(total_steps),
              ", so warm-up would not end and the learning rate would never be learning_rate; write warmup_steps: ",
              total_steps / kFewUpdates, ", or make the run longer (num_train_epochs, max_steps)");
}

// transformers would begin in the middle of the decay.
void check_stable_decay(const Schedule& schedule) {
  if (schedule.kind != ScheduleKind::kWarmupStableDecay || schedule.stable_steps() >= 0) return;
  throw Error(ErrorKind::kConfig, "lr_scheduler_kwargs: num_decay_steps ", *schedule.options.num_decay_steps,
              " and a warm-up of ", schedule.warmup_steps, " are longer than the run, which has ",
              counted_updates(schedule.total_steps), "; lower num_decay_steps");
}

}  // namespace

Schedule make_schedule(const TrainConfig& config, std::int64_t total_steps) {
  return {config.lr_scheduler, config.learning_rate, warmup_of(config, total_steps), total_steps,
          config.lr_scheduler_kwargs};
}

OptimizerSettings make_optimizer_settings(const TrainConfig& config) {
  return {.kind = config.optimizer,
          .beta1 = config.adam_beta1,
          .beta2 = config.adam_beta2,
          .epsilon = config.adam_epsilon,
          .weight_decay = config.weight_decay,
          .options = config.optim_args,
          .learning_rate = config.learning_rate,
          .groups = config.lr_groups,
          .loraplus = {config.loraplus_lr_ratio, config.loraplus_lr_embedding, config.learning_rate}};
}

std::vector<std::string> check_learns(const TrainConfig& config, std::int64_t total_steps) {
  if (config.learning_rate == 0)
    throw Error(ErrorKind::kConfig,
                "learning_rate 0: no update would change the adapter; write a rate above zero, such as 2e-4");
  check_warmup_ends(config, total_steps);
  const Schedule schedule = make_schedule(config, total_steps);
  check_stable_decay(schedule);
  std::vector<std::string> warnings;
  const std::int64_t asked = warmup_steps_from_ratio(config.warmup_ratio.value_or(0.0), total_steps);
  if (!config.warmup_steps && asked > schedule.warmup_steps && config.lr_scheduler != ScheduleKind::kConstant)
    warnings.push_back("warmup_ratio: " + std::to_string(asked) + " of " + counted_updates(total_steps) +
                       " would leave none after warm-up, so warm-up has " + std::to_string(schedule.warmup_steps));
  if (total_steps < kFewUpdates)
    warnings.push_back(
        "the run has " + counted_updates(total_steps) + ", which teaches little; for more, " +
        (config.max_steps ? "raise max_steps" : "raise num_train_epochs or lower gradient_accumulation_steps") +
        (config.packing.value_or(false) && !config.max_steps ? ", or write packing: false" : ""));
  return warnings;
}

std::string frozen_experts_note(const gemma4::ModelConfig& model, const TrainConfig& config) {
  const auto& towers = config.lora.towers;
  const bool adapts_decoder =
      !config.init_adapter.empty() || std::ranges::find(towers, lora::Tower::kLanguage) != towers.end();
  if (model.text.num_experts == 0 || !adapts_decoder || config.lora.adapts_experts()) return "";
  return "the experts stay frozen (" + std::to_string(model.text.num_experts) +
         " in each layer): target_modules, also all-linear, choose linear layers such as those of attention and the "
         "dense MLP; lora_towers: [language, experts] adapts the experts too";
}

}  // namespace bezel::train
