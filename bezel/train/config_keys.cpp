#include <array>
#include <cstddef>

#include "bezel/train/config_binding.h"
#include "bezel/train/config_fields.h"
#include "bezel/train/config_readers.h"
#include "bezel/train/preference_keys.h"

namespace bezel::train {
namespace {

template <auto Field>
void read(TrainConfig& config, const ConfigValue& value) {
  assign(config.*Field, value);
}
template <auto Field>
std::string write(const TrainConfig& config) {
  return show(config.*Field);
}
template <auto Field>
void read_lora(TrainConfig& config, const ConfigValue& value) {
  assign(config.lora.*Field, value);
}
template <auto Field>
void read_preference(TrainConfig& config, const ConfigValue& value) {
  assign(config.preference.*Field, value);
}
template <auto Field>
std::string write_preference(const TrainConfig& config) {
  return show(config.preference.*Field);
}
template <auto Field>
std::string write_lora(const TrainConfig& config) {
  return show(config.lora.*Field);
}

template <auto Field>
void read_video(TrainConfig& config, const ConfigValue& value) {
  assign(config.video.*Field, value);
}
template <auto Field>
std::string write_video(const TrainConfig& config) {
  return show(config.video.*Field);
}

// true, false, or auto: left to the run.
template <auto Field>
void read_auto(TrainConfig& config, const ConfigValue& value) {
  if (value.text == "auto")
    (config.*Field).reset();
  else
    config.*Field = value.as_bool();
}
template <auto Field>
std::string write_auto(const TrainConfig& config) {
  return config.*Field ? show(*(config.*Field)) : "auto";
}

using Config = TrainConfig;
using Lora = lora::LoraConfig;
using Video = data::VideoChoice;
using Preference = PreferenceConfig;

template <auto Field>
constexpr ConfigBinding bind(ConfigKey key) {
  return {key, key.name, read<Field>, write<Field>};
}
template <auto Field>
constexpr ConfigBinding bind_lora(ConfigKey key) {
  return {key, key.name, read_lora<Field>, write_lora<Field>};
}
template <auto Field>
constexpr ConfigBinding bind_video(ConfigKey key) {
  return {key, key.name, read_video<Field>, write_video<Field>};
}
template <auto Field>
constexpr ConfigBinding bind_preference(ConfigKey key) {
  return {key, key.name, read_preference<Field>, write_preference<Field>};
}
/// Another tool's spelling of what `slot` sets.
constexpr ConfigBinding alias_of(std::string_view slot, ConfigKey key, decltype(ConfigBinding::read) read,
                                 bool (*is_neutral)(const ConfigValue&) = nullptr) {
  return {key, slot, read, nullptr, is_neutral};
}

constexpr ConfigBinding kBindings[] = {
    bind<&Config::base_model>({"base_model", "model model_name model_name_or_path base_model_name_or_path", "folder",
                               "", "checkpoint folder or GGUF file to fine-tune"}),
    bind<&Config::mmproj>({"mmproj", "", "file", "the one beside base_model",
                           "GGUF file with the towers of a base_model that is a GGUF file"}),
    bind<&Config::tokenizer>({"tokenizer", "", "folder", "none",
                              "of a base_model that is a checkpoint of Orbax: folder with tokenizer.json and the other "
                              "small files; see docs/ORBAX.md"}),
    bind<&Config::convert_to>({"convert_to", "", "folder", "none",
                               "of such a base_model: folder that it is converted to, once; later runs use it again"}),
    bind<&Config::output_dir>({"output_dir", "", "folder", "", "where the adapter goes"}),
    bind<&Config::train_file>({"train_file", "train_data dataset_name", "file", "",
                               "samples, one JSON object a line; or a folder with train.jsonl and valid.jsonl"}),
    bind<&Config::eval_file>({"eval_file", "validation_file val_file eval_data", "file", "none", "held-out samples"}),
    {{"datasets", "", "list", "none",
      "several files, in place of train_file: maps with path, weight, max_samples, media_root, columns …; see "
      "docs/recipes.md"},
     "datasets",
     read_datasets,
     write_datasets,
     turns_off},
    {{"test_datasets", "eval_datasets", "list", "none", "the same in place of eval_file"},
     "test_datasets",
     read_test_datasets,
     write_test_datasets,
     turns_off},
    {{"dataset", "", "list", "none", "names in dataset_dir/dataset_info.json, as LLaMA-Factory has it"},
     "dataset",
     read<&Config::dataset>,
     write<&Config::dataset>,
     turns_off},
    {{"eval_dataset", "", "list", "none", "the same, of held-out samples"},
     "eval_dataset",
     read<&Config::eval_dataset>,
     write<&Config::eval_dataset>,
     turns_off},
    bind<&Config::dataset_dir>({"dataset_dir", "", "folder", "data", "folder of dataset_info.json and its files"}),
    bind<&Config::max_samples>({"max_samples", "", "whole", "all", "of each file, from its first on"}),
    {{"columns", "", "map", "none", "columns of the data by Bezel's names, such as {messages: dialog}"},
     "columns",
     read_column_names,
     write_column_names},
    alias_of("field_messages", {"field_messages", "", "text", "", "columns: {messages: …}"}, read_field_messages),
    alias_of("dataset_text_field", {"dataset_text_field", "", "text", "", "columns: {text: …}"}, read_text_field),
    {{"message_property_mappings", "", "map", "none", "keys of messages, such as {role: from, content: value}"},
     "message_property_mappings",
     read_message_properties,
     write_message_properties},
    {{"roles", "", "map", "none", "roles of messages, such as {user: [human], assistant: [gpt]}"},
     "roles",
     read_role_names,
     write_role_names},
    bind<&Config::media_root>(
        {"media_root", "media_dir image_folder", "folder", "train_file's", "media paths lie below it"}),
    {{"dtype", "torch_dtype", "text", "bfloat16", "of the model's arithmetic: bfloat16, float32; auto: bfloat16"},
     "dtype",
     read_dtype,
     write<&Config::dtype>},
    alias_of("dtype",
             {"bf16", "bfloat16 pure_bf16", "true|false|auto", "", "dtype: bfloat16 when true, else float32", true},
             read_bf16),
    alias_of("dtype", {"float32", "fp32", "true|false", "", "dtype: float32", true}, read_float32, turns_off),
    {{"storage", "", "text", "dense",
      "of the frozen weights: dense, nf4, int8; codes in a checkpoint stay as they are"},
     "storage",
     read_storage,
     write<&Config::storage>},
    alias_of("storage", {"load_in_4bit", "", "true|false", "false", "other tools' storage: nf4", true},
             read_load_in_4bit, turns_off),
    alias_of("storage", {"load_in_8bit", "", "true|false", "false", "other tools' storage: int8", true},
             read_load_in_8bit, turns_off),
    alias_of("storage", {"quantization_bit", "", "4|8", "none", "storage: nf4 or int8"}, read_quantization_bit,
             is_not_quantized),
    bind<&Config::quantize_skip>({"quantize_skip", "llm_int8_skip_modules", "list", "[]",
                                  "modules that stay dense: regexes from the start of a name, or ends of names"}),
    {{"quantize_embeddings", "", "none|int8", "none", "int8: the token embeddings, and the head tied to them, too"},
     "quantize_embeddings",
     read_quantize_embeddings,
     write_quantize_embeddings},
    bind<&Config::device>({"device", "", "text", "cpu", "cpu, cuda, cuda:N, auto"}),
    bind<&Config::embeddings_on>({"embeddings_on", "", "device|host", "device",
                                  "host: per-layer embeddings stay in its memory, their rows travel with each batch"}),
    bind<&Config::threads>({"threads", "", "whole", "all cores", "of the arithmetic on the CPU"}),

    alias_of("storage", {"adapter", "", "text", "lora", "lora; qlora: over storage nf4"}, read_adapter_kind,
             is_plain_lora),
    bind_lora<&Lora::rank>({"lora_r", "lora_rank r", "whole", "16", "rank"}),
    bind_lora<&Lora::alpha>({"lora_alpha", "alpha", "number", "2 * lora_r", "scale is lora_alpha / lora_r"}),
    bind_lora<&Lora::dropout>({"lora_dropout", "", "number", "0", "on the adapter's input"}),
    bind_lora<&Lora::use_rslora>(
        {"use_rslora", "peft_use_rslora", "true|false", "false", "scale is lora_alpha / sqrt(lora_r)", true}),
    bind_lora<&Lora::towers>({"lora_towers", "", "list", "[language]",
                              "what to adapt: language, vision, audio, projectors (the two embedders), experts"}),
    bind_lora<&Lora::target_modules>({"target_modules", "lora_target_modules lora_target", "list or regex",
                                      "attention and MLP projections",
                                      "layers inside lora_towers: names, one regex (full match), or all-linear"}),
    alias_of("target_modules", {"lora_target_linear", "", "true|false", "false", "target_modules: all-linear", true},
             read_target_linear, turns_off),
    alias_of("language_tower",
             {"finetune_language_layers", "", "true|false", "", "language in lora_towers, or not", true},
             read_language_tower),
    alias_of("vision_tower", {"finetune_vision_layers", "", "true|false", "", "vision in lora_towers, or not", true},
             read_vision_tower),
    alias_of("audio_tower", {"finetune_audio_layers", "", "true|false", "", "audio in lora_towers, or not", true},
             read_audio_tower),
    alias_of("language_tower",
             {"freeze_language_model", "", "true|false", "", "language not in lora_towers, or in them", true},
             read_frozen_language),
    alias_of("vision_tower",
             {"freeze_vision_tower", "", "true|false", "", "vision not in lora_towers, or in them", true},
             read_frozen_vision),
    alias_of("projectors_tower",
             {"freeze_multi_modal_projector", "", "true|false", "", "projectors not in lora_towers, or in them", true},
             read_frozen_projectors),
    bind_lora<&Lora::exclude_modules>(
        {"exclude_modules", "lora_exclude_modules", "list or regex", "none", "layers to leave alone"}),
    bind_lora<&Lora::target_parameters>(
        {"target_parameters", "lora_target_parameters", "list", "both, with experts in lora_towers",
         "stacks of experts to adapt: experts.gate_up_proj, experts.down_proj, or full names"}),
    bind_lora<&Lora::layers_to_transform>({"layers_to_transform", "peft_layers_to_transform", "list", "all",
                                           "numbers of the layers to adapt, from 0; not beside a regex"}),
    bind_lora<&Lora::layers_pattern>({"layers_pattern", "peft_layers_pattern", "list", "any",
                                      "what stands before the number of a layer in its name"}),
    bind_lora<&Lora::rank_pattern>(
        {"rank_pattern", "lora_rank_pattern", "map", "none", "name or regex: rank of those layers"}),
    bind_lora<&Lora::alpha_pattern>(
        {"alpha_pattern", "lora_alpha_pattern", "map", "none", "name or regex: alpha of those layers"}),
    bind<&Config::init_adapter>(
        {"init_adapter", "adapter_name_or_path lora_model_dir", "folder", "none", "adapter to start from"}),
    bind_lora<&Lora::use_dora>({"use_dora", "peft_use_dora", "true|false", "false",
                                "DoRA: a trained magnitude for each output of the adapted layers", true}),
    {{"init_lora_weights", "peft_init_lora_weights", "text", "true",
      "how A and B begin, as in PEFT: true, gaussian, orthogonal, pissa, pissa_niter_N, false"},
     "init_lora_weights",
     read_init_lora_weights,
     write_lora<&Lora::init_lora_weights>},
    bind_lora<&Lora::modules_to_save>({"modules_to_save", "lora_modules_to_save additional_target", "list", "none",
                                       "trained whole and saved beside LoRA: embed_tokens, lm_head, norms"}),
    {{"trainable_token_indices", "peft_trainable_token_indices", "list or map", "none",
      "tokens whose rows of embed_tokens are trained; or a map, {embed_tokens: [...], lm_head: [...]}"},
     "trainable_token_indices",
     read_trainable_tokens,
     write_lora<&Lora::trainable_token_indices>},
    bind<&Config::add_tokens>({"add_tokens", "tokens new_tokens", "list", "none",
                               "tokens that the tokenizer gets; their rows are trained; see docs/ADAPTERS.md"}),
    bind<&Config::add_special_tokens>({"add_special_tokens", "additional_special_tokens new_special_tokens", "list",
                                       "none", "the same, of special tokens, which answers do not show"}),
    bind<&Config::loraplus_lr_ratio>({"loraplus_lr_ratio", "lorap_lr_ratio", "number", "none",
                                      "LoRA+: the rate of B and of magnitudes over that of A"}),
    bind<&Config::loraplus_lr_embedding>(
        {"loraplus_lr_embedding", "", "number", "1e-6", "LoRA+: the rate of LoRA on the embeddings"}),

    {{"objective", "rl stage", "text", "sft",
      "what is minimized: sft, or by preference dpo, orpo, simpo, kto; see docs/preferences.md"},
     "objective",
     read_objective,
     write_objective,
     turns_off},
    {{"dpo_loss", "loss_type pref_loss dpo_loss_type", "list", "[sigmoid]",
      "sigmoid, ipo, hinge, sft (the chosen answers' loss), or several of them"},
     "dpo_loss",
     read_dpo_loss,
     write_dpo_loss,
     is_plain_loss},
    {{"loss_weights", "dpo_loss_weights", "list", "1 each", "of the losses of dpo_loss"},
     "loss_weights",
     read_loss_weights,
     write_loss_weights},
    alias_of("rpo_alpha",
             {"rpo_alpha", "pref_ftx dpo_ftx", "number", "0", "dpo_loss has sft as well, with this weight"},
             read_rpo_alpha, is_zero_weight),
    bind_preference<&Preference::beta>({"beta", "pref_beta dpo_beta rl_beta orpo_alpha orpo_beta kto_beta simpo_beta",
                                        "number", "0.1",
                                        "how closely the model keeps to the reference; factor of rewards"}),
    bind_preference<&Preference::label_smoothing>(
        {"label_smoothing", "dpo_label_smoothing", "number", "0",
         "of dpo_loss sigmoid and simpo: share of the pairs that may be the wrong way round"}),
    bind_preference<&Preference::simpo_gamma>({"simpo_gamma", "", "number", "0.5", "the margin that simpo asks for"}),
    bind_preference<&Preference::cpo_alpha>(
        {"cpo_alpha", "", "number", "0", "of simpo: weight of the chosen answers' loss"}),
    bind_preference<&Preference::desirable_weight>(
        {"desirable_weight", "kto_desirable_weight kto_chosen_weight", "number", "1", "of kto's good answers"}),
    bind_preference<&Preference::undesirable_weight>(
        {"undesirable_weight", "kto_undesirable_weight kto_rejected_weight", "number", "1", "of kto's bad answers"}),

    bind<&Config::learning_rate>({"learning_rate", "lr", "number", "2e-4; 5e-6 by preference", "after warm-up"}),
    bind<&Config::lr_scheduler>(
        {"lr_scheduler", "lr_scheduler_type", "text", "cosine",
         "cosine, linear, constant, constant_with_warmup, cosine_with_restarts, cosine_with_min_lr, "
         "cosine_warmup_with_min_lr, polynomial, inverse_sqrt, warmup_stable_decay; formulas of transformers"}),
    bind<&Config::lr_scheduler_kwargs>(
        {"lr_scheduler_kwargs", "", "map", "{}",
         "what the schedule takes: min_lr or min_lr_rate, num_cycles, lr_end, power, timescale, num_decay_steps …"}),
    alias_of("cosine_min_lr_ratio",
             {"cosine_min_lr_ratio", "", "number", "", "cosine_with_min_lr with that min_lr_rate"}, read_cosine_min_lr),
    bind<&Config::warmup_ratio>(
        {"warmup_ratio", "", "number", "0.03; 0 below 10 updates", "share of all updates, rounded up; never all"}),
    {{"warmup_steps", "", "number", "by warmup_ratio", "updates of warm-up; below 1 as warmup_ratio"},
     "warmup_steps",
     read_warmup_steps,
     write<&Config::warmup_steps>},
    {{"optimizer", "optim", "text", "adamw",
      "adamw, adamw_8bit (bitsandbytes' moments), adafactor, lion, muon; also by the names of other tools"},
     "optimizer",
     read_optimizer,
     write_optimizer},
    alias_of("optimizer", {"use_muon", "", "true|false", "false", "optimizer: muon", true}, read_use_muon, turns_off),
    {{"optim_args", "", "map", "{}",
      "what the optimizer takes: adafactor clip_threshold, decay_rate, beta1; muon momentum, nesterov, ns_steps, "
      "adjust_lr_fn; adamw_8bit min_8bit_size"},
     "optim_args",
     read_optim_args,
     write_optim_args},
    {{"lr_groups", "", "list", "[]",
      "learning rates of their own: maps with modules (parts of module names) and lr; the first that matches counts"},
     "lr_groups",
     read_lr_groups,
     write_lr_groups,
     turns_off},
    bind<&Config::weight_decay>(
        {"weight_decay", "", "number", "0", "decoupled, times the learning rate; not of norms and biases"}),
    bind<&Config::adam_beta1>({"adam_beta1", "", "number", "0.9", "decay of the first moment; Lion's beta1"}),
    bind<&Config::adam_beta2>({"adam_beta2", "", "number", "0.999", "decay of the second moment; Lion's beta2"}),
    bind<&Config::adam_epsilon>({"adam_epsilon", "", "number", "1e-8", "added to the root of the second moment"}),
    bind<&Config::max_grad_norm>({"max_grad_norm", "", "number", "1.0", "gradients are scaled down to it; 0: never"}),

    bind<&Config::micro_batch_size>(
        {"micro_batch_size", "per_device_train_batch_size", "whole", "1", "samples at a time; with packing rows"}),
    bind<&Config::gradient_accumulation_steps>(
        {"gradient_accumulation_steps", "", "whole", "4", "micro-batches an update; tokens count equally"}),
    bind<&Config::global_batch_size>({"global_batch_size", "", "whole", "by gradient_accumulation_steps",
                                      "samples an update, however many processes share them; counts before it"}),
    {{"reduce_dtype", "", "text", "float32",
      "in which gradients travel between processes: float32, or bfloat16, half of it; see docs/CLUSTER.md"},
     "reduce_dtype",
     read_reduce_dtype,
     write<&Config::reduce_dtype>},
    bind<&Config::max_seq_length>(
        {"max_seq_length", "sequence_len max_length cutoff_len model_max_length", "whole", "2048", "tokens a sample"}),
    bind<&Config::num_train_epochs>(
        {"num_train_epochs", "num_epochs epochs", "number", "1", "passes over the samples"}),
    {{"max_steps", "", "whole", "by num_train_epochs", "updates"},
     "max_steps",
     read_max_steps,
     write<&Config::max_steps>},
    {{"packing", "sample_packing", "true|false|auto", "auto",
      "samples side by side in rows of max_seq_length, each by itself; auto: text, where 10 updates are left", true},
     "packing",
     read_auto<&Config::packing>,
     write_auto<&Config::packing>},
    {{"share_prefixes", "", "true|false|auto", "auto",
      "compute once what samples of a step or evaluation begin alike by; auto: where it spares a tenth of the tokens",
      true},
     "share_prefixes",
     read_auto<&Config::share_prefixes>,
     write_auto<&Config::share_prefixes>},
    alias_of("packing", {"neat_packing", "", "true|false", "", "packing", true}, read_neat_packing, turns_off),
    bind<&Config::shuffle>({"shuffle", "", "true|false", "true", "a new order each epoch, given by seed", true}),
    alias_of("shuffle", {"train_sampling_strategy", "", "text", "", "sequential: shuffle: false"},
             read_sampling_strategy),
    alias_of("shuffle",
             {"disable_shuffling", "curriculum_sampling sample_packing_sequentially", "true|false", "",
              "shuffle: false", true},
             read_no_shuffling, turns_off),
    bind<&Config::seed>(
        {"seed", "random_state data_seed", "whole", "42", "of the order, the adapter's start and dropout"}),
    {{"gradient_checkpointing", "use_gradient_checkpointing activation_checkpointing", "true|false|auto", "auto",
      "layers run again in the backward pass: less memory; auto: where it would not fit", true},
     "gradient_checkpointing",
     read_gradient_checkpointing,
     write_auto<&Config::gradient_checkpointing>},
    alias_of("gradient_checkpointing",
             {"disable_gradient_checkpointing", "", "true|false", "", "gradient_checkpointing: false", true},
             read_no_gradient_checkpointing, turns_off),
    {{"neftune_noise_alpha", "", "number", "0",
      "NEFTune: noise on token embeddings in training, uniform within alpha / sqrt(length * width)"},
     "neftune_noise_alpha",
     read<&Config::neftune_noise_alpha>,
     write<&Config::neftune_noise_alpha>,
     turns_off},
    {{"label_smoothing_factor", "", "number", "0", "share of each label that is spread over the whole vocabulary"},
     "label_smoothing_factor",
     read<&Config::label_smoothing_factor>,
     write<&Config::label_smoothing_factor>,
     turns_off},

    bind<&Config::train_on_inputs>(
        {"train_on_inputs", "train_on_prompt", "true|false", "false", "loss on every turn", true}),
    alias_of("train_on_inputs",
             {"assistant_only_loss", "completion_only_loss train_on_responses_only", "true|false", "",
              "false: train_on_inputs", true},
             read_answers_only),
    bind<&Config::mask_history>({"mask_history", "", "true|false", "false", "loss on the last answer only", true}),
    {{"chat_template", "chat_template_path", "file", "the checkpoint's",
      "renders chats: a template in the language of jinja2"},
     "chat_template",
     read_chat_template,
     write<&Config::chat_template>},
    bind<&Config::chat_format>({"chat_format", "", "text", "auto",
                                "auto: the chat template, or without one the model's; edge (E2B, E4B), large, gemma3"}),
    bind<&Config::max_soft_tokens>(
        {"max_soft_tokens", "", "whole", "the processor's", "of an image: 70, 140, 280, 560, 1120"}),
    bind<&Config::image_attention>(
        {"image_attention", "", "text", "all_layers for the 12B",
         "where tokens of an image see what is behind them: all_layers (transformers), sliding_layers (vLLM, "
         "llama.cpp, Google's code); gemma4_unified alone has the choice"}),
    bind_video<&Video::num_frames>({"video_frames", "", "whole", "the processor's", "of each video: 32"}),
    bind_video<&Video::fps>(
        {"video_fps", "", "number", "", "frames of each second of a video, in place of video_frames"}),
    bind_video<&Video::soft_tokens>(
        {"video_soft_tokens", "", "whole", "the processor's", "of a frame: 70, 140, 280, 560, 1120"}),
    bind<&Config::skip_bad_samples>({"skip_bad_samples", "", "true|false", "false", "leave them out and count", true}),
    bind<&Config::dataloader_num_workers>(
        {"dataloader_num_workers", "", "whole", "1", "threads that read samples ahead; 0: read between steps"}),
    bind<&Config::data_timeout_s>(
        {"data_timeout", "", "number", "300", "seconds for a sample in a worker, after which it is bad; 0: no bound"}),
    {{"cache_soft_tokens", "", "true|false|auto", "auto",
      "keep what towers without adapters make of images and audio clips; auto: where samples come more than once",
      true},
     "cache_soft_tokens",
     read_auto<&Config::cache_soft_tokens>,
     write_auto<&Config::cache_soft_tokens>},
    bind<&Config::cache_dir>(
        {"cache_dir", "", "folder", "cache in output_dir", "where soft tokens are kept; runs may share it"}),
    bind<&Config::cache_limit_gb>(
        {"cache_limit_gb", "", "number", "4", "of that folder; what was used longest ago goes first"}),

    bind<&Config::val_set_size>(
        {"val_set_size", "val_size test_split_size", "number", "0", "held out: a share below 1, or a number"}),
    {{"eval_strategy", "evaluation_strategy", "no|steps|epoch", "epoch",
      "when to evaluate; no: after the last update alone"},
     "eval_strategy",
     read_eval_strategy,
     write<&Config::eval_strategy>},
    bind<&Config::eval_steps>(
        {"eval_steps", "", "number", "each epoch", "updates between evaluations; below 1: share of all"}),
    bind<&Config::evals_per_epoch>({"evals_per_epoch", "", "whole", "by eval_steps", "evaluations an epoch"}),
    bind<&Config::eval_delay>(
        {"eval_delay", "", "number", "0", "no evaluation before: epochs by eval_strategy epoch, else updates"}),
    bind<&Config::eval_generate>({"eval_generate", "", "true|false", "false",
                                  "evaluations let the model answer the held-out samples: eval_exact_match", true}),
    bind<&Config::eval_max_new_tokens>({"eval_max_new_tokens", "", "whole", "128", "at most, of such an answer"}),
    {{"metric_for_best_model", "", "text", "eval_loss",
      "by which evaluations are compared: eval_loss, eval_mean_token_accuracy, eval_exact_match"},
     "metric_for_best_model",
     read_best_metric,
     write_best_metric},
    bind<&Config::greater_is_better>(
        {"greater_is_better", "", "true|false", "by the metric", "false of a loss, true of the others", true}),
    {{"early_stopping_patience", "early_stopping_steps", "whole", "none",
      "evaluations in a row without gain after which the run stops"},
     "early_stopping_patience",
     read<&Config::early_stopping_patience>,
     write<&Config::early_stopping_patience>,
     turns_off},
    {{"early_stopping_threshold", "", "number", "0", "what is no more than this better than the best is no gain"},
     "early_stopping_threshold",
     read<&Config::early_stopping_threshold>,
     write<&Config::early_stopping_threshold>,
     turns_off},
    bind<&Config::load_best_model_at_end>({"load_best_model_at_end", "", "true|false", "false",
                                           "the adapter in output_dir is that of the best evaluation, not the last",
                                           true}),
    {{"logging_strategy", "", "no|steps|epoch", "steps", "when to log; no: after the last update alone"},
     "logging_strategy",
     read_logging_strategy,
     write<&Config::logging_strategy>},
    bind<&Config::logging_steps>({"logging_steps", "", "number", "1", "updates between lines; below 1: share of all"}),
    bind<&Config::log_samples>({"log_samples", "", "true|false", "false",
                                "samples.jsonl: the samples of each update, by file and line, for each process", true}),
    {{"save_strategy", "", "no|steps|epoch|best", "steps",
      "when to save checkpoints; best: of evaluations that are the best so far; no: the adapter at the end alone"},
     "save_strategy",
     read_save_strategy,
     write<&Config::save_strategy>},
    bind<&Config::save_steps>(
        {"save_steps", "", "number", "100", "updates between checkpoints; below 1: share of all; 0: only at the end"}),
    bind<&Config::saves_per_epoch>({"saves_per_epoch", "", "whole", "by save_steps", "checkpoints an epoch"}),
    bind<&Config::save_total_limit>({"save_total_limit", "", "whole", "3", "checkpoints kept; 0: all"}),
    bind<&Config::sample_predictions>(
        {"sample_predictions", "", "whole", "3", "samples that the model answers before and after training; 0: none"}),
    {{"report_to", "", "list|none", "[jsonl, tensorboard, html]", "metrics.jsonl, runs/, report.html; or none"},
     "report_to",
     read_report_to,
     write<&Config::report_to>},
    {{"resume_from_checkpoint", "resume auto_resume_from_checkpoints", "auto|none|folder", "none",
      "go on, to the same bytes: auto, from the newest checkpoint in output_dir; or from this one", true},
     "resume_from_checkpoint",
     read_resume,
     write<&Config::resume_from_checkpoint>},
    bind<&Config::force_resume>({"force_resume", "", "true|false", "false",
                                 "resume though data, base or config differ from those of the checkpoint", true}),
};

constexpr auto kKeys = [] {
  std::array<ConfigKey, std::size(kBindings)> keys{};
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = kBindings[i].key;
  return keys;
}();

}  // namespace

std::span<const ConfigKey> config_keys() { return kKeys; }
std::span<const ConfigBinding> config_bindings() { return kBindings; }

}  // namespace bezel::train
