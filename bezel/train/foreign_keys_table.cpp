#include <iterator>

#include "bezel/train/foreign_keys.h"

namespace bezel::train {
namespace {

using enum ForeignEffect;

constexpr ForeignKey kRows[] = {
    // Speed, memory and hardware.
    {"attn_implementation flash_attention flash_attn flash_attn_* flash_optimum xformers_attention sdp_attention "
     "sdpa_varlen eager_attention flex_attention flex_attn_* sage_attention gemma4_hybrid_attn_impl "
     "large_head_attention fused_attn_kernel use_flash_attention_2",
     kIgnored, "", "attention has one implementation"},
    {"tf32 torch_compile torch_compile_* use_liger_kernel enable_liger_kernel liger_* cut_cross_entropy "
     "chunked_cross_entropy* lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel use_kernels "
     "use_scattermoe use_sonicmoe experts_implementation quantize_moe_experts tiled_mlp* use_unsloth "
     "unsloth_tiled_mlp fast_inference use_v1_kernels batch_flattening",
     kIgnored, "", "kernels are chosen by the machine"},
    {"plugins", kOnly,
     "axolotl.integrations.cut_cross_entropy* axolotl.integrations.liger* axolotl.integrations.kernels* "
     "axolotl.integrations.lm_eval*",
     "plugins other than axolotl's faster kernels would change what is learnt; leave this one out"},
    {"deepspeed deepcompile fsdp fsdp_* ddp ddp_* accelerator_config parallelism_config device_map max_memory "
     "gpu_memory_limit low_cpu_mem_usage local_rank world_size n_gpu num_gpus ray_* use_ray resources_per_worker "
     "sequence_parallel_degree context_parallel_size tensor_parallel_size dp_shard_size dp_replicate_size "
     "heads_k_stride ring_attn_func no_cuda use_cpu use_mps_device average_tokens_across_devices master_addr "
     "master_port qlora_sharded_model_loading capabilities env_capabilities half_precision_backend",
     kIgnored, "", "one process, on one device (key device)"},
    {"gradient_checkpointing_kwargs activation_checkpointing_kwargs activation_offloading layer_offloading "
     "selective_checkpointing use_reentrant_gc offload_* lora_on_cpu gc_steps gc_collect_steps "
     "torch_empty_cache_steps upcast_layernorm upcast_lmhead_output embeddings_skip_upcast fp32_norms "
     "fp32_norm_classes peft_autocast_adapter_dtype autocast_adapter_dtype",
     kIgnored, "", "memory is managed by gradient_checkpointing and storage"},
    {"bnb_4bit_use_double_quant use_bnb_nested_quant double_quantization bnb_4bit_quant_storage "
     "quantization_device_map load_in_16bit",
     kIgnored, "", "how scales of 4-bit weights are kept"},
    {"bnb_config_kwargs", kOnly, "nf4 true false uint8 bfloat16 float32", "4-bit weights are NF4; delete it"},
    {"bnb_4bit_quant_type quantization_type", kOnly, "nf4", "4-bit weights are NF4; write nf4"},
    {"bnb_4bit_compute_dtype", kOnly, "bfloat16 bf16 torch.bfloat16 float32 fp32 torch.float32 auto",
     "the arithmetic is that of dtype: bfloat16 or float32; delete it"},
    {"quantization_method", kOnly, "bnb bitsandbytes", "weights are quantized as bitsandbytes does; write bnb"},
    {"gptq load_in_gptq awq hqq qat quantization quantization_config model_quantization_config fp8 fp8_*", kOff, "",
     "write storage: nf4 or int8, or load_in_4bit: true"},
    {"auto_find_batch_size", kOff, "",
     "write a micro_batch_size that fits; `bezel preprocess --dry-run` estimates the memory"},
    {"fp16 float16", kOff, "", "float16 is not supported; write bf16: true (or dtype: float32) instead"},

    // How data are read.
    {"dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor dataloader_in_order "
     "dataloader_multiprocessing_context dataset_num_proc dataset_processes dataset_kwargs dataset_batch_size "
     "preprocessing_num_workers preprocessing_batch_size overwrite_cache dataset_prepared_path "
     "dataset_keep_in_memory data_shared_file_system num_dataset_shards_to_save skip_prepare_dataset streaming "
     "dataset_streaming buffer_size remove_unused_columns label_names length_column_name preprocess_iterable "
     "is_preprocess axolotl_config_path total_num_tokens total_supervised_tokens dataset_test_split",
     kIgnored, "", "samples are found by an index and read one by one"},
    {"pad_to_sequence_len pad_to_max_length pad_to_multiple_of padding_free eval_packing eval_sample_packing "
     "sample_packing_group_size sample_packing_bin_size sample_packing_mp_start_method sample_packing_eff_est "
     "multipack_real_batches group_by_length shuffle_merged_datasets shuffle_before_merging_datasets shuffle_dataset",
     kIgnored, "", "how samples are padded and grouped; `shuffle` orders them"},
    {"dataset_train_split", kOnly, "train", "name the file of that split as train_file"},
    {"packing_strategy", kOnly, "bfd ffd", "packing puts whole samples into a row; delete it, or write packing: false"},
    {"truncation_mode", kOnly, "keep_start", "samples that are too long are cut at their end; delete it"},
    {"excess_length_strategy", kOnly, "truncate",
     "samples that are too long are cut at their end (write truncate); to leave them out, drop them from the data"},
    {"dataloader_drop_last", kOff, "", "the last update of an epoch has what is left; write false"},
    {"mix_strategy", kOnly, "concat", "write concat, and give files a weight: datasets: [{path: …, weight: 2}]"},
    {"interleave_probs", kOff, "", "give files a weight: datasets: [{path: …, weight: 2}]"},
    {"dataset_config dataset_config_name subset", kOff, "default main",
     "files have no configurations; name the file as train_file"},
    {"pretraining_dataset tokenized_path", kOff, "", "give samples of text as train_file"},
    {"dataset_exact_deduplication dataset_shard_num dataset_shard_idx min_sample_len", kOff, "",
     "samples are not filtered; delete it, and filter the file"},
    {"default_system default_system_message", kOff, "", "write it as 'system' of each line"},
    {"enable_thinking preserve_thinking", kOff, "",
     "thoughts are not trained; write false, or set it in chat_template_kwargs of a line"},
    {"tool_format", kOff, "gemma*", "tools are written in the model's own format; delete it"},
    {"template", kOnly, "gemma* tokenizer_default auto",
     "the checkpoint's own chat template is used; delete it, or name a file as chat_template"},
    {"chat_template_jinja", kOff, "", "write the template into a file, and name it as chat_template"},
    {"chat_template_kwargs", kOff, "", "write it on each line of the data, beside messages"},
    {"roles_to_train", kOnly, "assistant gpt model",
     "loss falls on the assistant's turns; write train_on_inputs: true "
     "for all turns, or \"train\": false on messages"},
    {"train_on_eos train_on_eot", kOnly, "turn", "loss falls on the end of each assistant's turn; write turn"},
    {"image_max_pixels image_min_pixels image_do_pan_and_scan crop_to_patches image_size image_resize_algorithm",
     kNoted, "", "images are scaled by the model's own rule; max_soft_tokens sets their size"},
    {"video_max_pixels video_min_pixels", kNoted, "",
     "frames are scaled by the model's own rule; video_soft_tokens sets their size"},
    {"video_maxlen", kOff, "", "write video_frames: the number of frames of each video"},
    {"use_audio_in_video", kOff, "", "the sound of a video is not read; list it as an audio clip beside the video"},
    {"audio_sampling_rate", kOnly, "16000", "audio clips are read at 16 kHz; write 16000"},

    // Evaluation, logging, saving.
    {"per_device_eval_batch_size eval_batch_size eval_accumulation_steps eval_do_concat_batches eval_on_start "
     "eval_use_gather_object eval_on_each_dataset eval_sequence_len prediction_loss_only "
     "include_for_metrics batch_eval_metrics compute_accuracy do_eval do_causal_lm_eval eval_causal_lm_metrics "
     "eval_table_size eval_num_beams bf16_full_eval fp16_full_eval predict_with_generate "
     "do_predict do_bench_eval bench_dataset bench_split generate_samples num_generation_samples generation_*",
     kIgnored, "", "evaluation measures loss and token accuracy on held-out samples; eval_generate also answers them"},
    {"logging_dir logging_first_step logging_nan_inf_filter log_level log_level_replica log_on_each_node log_history "
     "disable_tqdm run_name project plot_loss debug skip_memory_metrics include_num_input_tokens_seen "
     "include_tokens_per_second include_tkps include_effective_tokens_per_second enable_torch_profiler profile_* "
     "profiler_* print_param_status loss_watchdog_threshold loss_watchdog_patience verbose use_tensorboard",
     kIgnored, "", "metrics.jsonl, runs/ (TensorBoard) and report.html are written to output_dir"},
    {"wandb_* use_wandb mlflow_* use_mlflow hf_mlflow_log_artifacts comet_* use_comet neptune_* swanlab_* use_swanlab "
     "trackio_* use_trackio clearml_* otel_* use_otel_metrics gradio_*",
     kIgnored, "", "metrics.jsonl, runs/ (TensorBoard) and report.html are written to output_dir"},
    {"hub_* push_dataset_to_hub push_to_hub_* hf_hub_token ms_hub_token om_hub_token hf_use_auth_token "
     "use_auth_token export_*",
     kIgnored, "", "nothing is uploaded or exported; `hf upload` and `bezel merge` do that"},
    {"push_to_hub", kOff, "", "nothing is uploaded; write false, and upload output_dir with `hf upload` afterwards"},
    {"save_safetensors save_only_model save_on_each_node save_first_step overwrite_output_dir "
     "restore_callback_states_from_checkpoint enable_jit_checkpoint tokenizer_save_jinja_files merge_lora "
     "merge_method adapter_folder dynamic_checkpoint",
     kIgnored, "", "checkpoints and the adapter have one form"},
    {"ignore_data_skip", kOff, "", "a resumed run continues with the next sample; write false"},

    // What is trained, and how.
    {"do_train use_peft", kOnly, "true yes 1", "Bezel trains LoRA adapters; write true, or delete it"},
    {"finetuning_type", kOnly, "lora", "LoRA alone is built; write lora"},
    {"full_finetuning reward_model process_reward_model reward_funcs use_llama_pro use_mca use_hyper_parallel "
     "use_megatron_bridge use_kt trainer_cls relora train_from_scratch reinit_weights",
     kOff, "", "LoRA with supervised samples alone is built; delete it"},
    {"use_weighting dpo_use_weighting ld_alpha dpo_ld_alpha dpo_norm_loss pref_bco_weight sync_ref_model "
     "reference_free "
     "force_use_ref_model ref_model_adapters ref_adapter_name",
     kOff, "", "the reference is the model before training, and losses are those of dpo_loss; delete it"},
    {"ref_model", kOff, "",
     "the reference is the base, or the adapter that the run starts from (init_adapter); delete it"},
    {"f_divergence_type", kOnly, "reverse_kl fdivergencetype.reverse_kl",
     "the divergence is the reverse KL; delete it"},
    {"disable_dropout", kNoted, "", "dropout is lora_dropout alone, and 0 unless you write it"},
    {"precompute_ref_log_probs precompute_ref_batch_size use_logits_to_keep dpo_use_logits_to_keep dpo_padding_free "
     "generate_during_eval model_adapter_name base_model_attribute_name",
     kIgnored, "", "the reference is computed once, before training"},
    {"f_alpha_divergence_coef discopop_tau ref_model_mixup_alpha ref_model_sync_steps", kIgnored, "",
     "settings of losses that are not built"},
    {"pref_* dpo_* kto_* simpo_* orpo_* cpo_* ppo_* rl_* ref_model_* reward_model_* trl vllm ebft", kIgnored, "",
     "settings of training with rewards, which stage or rl would ask for"},
    {"optim_target_modules torchdistx_path adam_epsilon2 adam_beta3", kOff, "",
     "optimizers have adam_beta1, adam_beta2, adam_epsilon, weight_decay and optim_args; delete it"},
    {"use_galore use_apollo use_badam use_adam_mini lisa_n_layers lisa_step_interval lisa_layers_attribute", kOff, "",
     "optimizers are adamw, adamw_8bit, adafactor, lion and muon; write false"},
    {"galore_* apollo_* badam_* qgalore_* dion_*", kIgnored, "", "settings of optimizers that are not built"},
    {"embedding_lr embedding_lr_scale lr_quadratic_warmup lr_div_factor cosine_constant_lr_ratio "
     "jagged_restart_* relora_*",
     kOff, "", "learning rates go by lr_scheduler, lr_scheduler_kwargs and lr_groups; delete it"},
    {"use_dft_loss use_asft_loss use_eaft_loss use_eaft", kOff, "",
     "the loss is the negative log likelihood; write false"},
    {"asft_alpha eaft_alpha eaft_k", kIgnored, "", "settings of losses that are not built"},
    {"router_aux_loss_coef moe_aux_loss_coef output_router_logits", kOff, "",
     "the router stays frozen, without a loss of its own; delete it"},
    {"neat_packing_* block_diag_attn", kIgnored, "", "packed samples never see each other"},
    {"bias lora_bias", kOff, "none", "biases stay frozen; write none"},
    {"pissa_init", kOff, "",
     "write init_lora_weights: pissa, or pissa_niter_16 for LLaMA-Factory's 16 iterations (pissa_iter) in its place"},
    {"use_loftq loftq_config loftq_bits eva_config corda_config lora_ga_config layer_replication "
     "peft_layer_replication megatron_config use_qalora alora_invocation_tokens arrow_config use_bdlora kasa_config "
     "velora_config monteclora_config module_dropout create_new_adapter lora_fan_in_fan_out fan_in_fan_out peft "
     "runtime_config",
     kOff, "", "plain LoRA alone is built; delete it"},
    {"pissa_iter pissa_convert", kIgnored, "",
     "init_lora_weights says the iterations (pissa_niter_N), and PiSSA is saved as LoRA over the base as it is"},
    {"peft_version oft_* freeze_trainable_layers freeze_trainable_modules freeze_extra_modules ensure_weight_tying "
     "peft_ensure_weight_tying qalora_group_size megatron_core task_type lora_task_type peft_type inference_mode "
     "auto_mapping lora_model_path",
     kIgnored, "", "changes nothing of LoRA"},
    {"finetune_attention_modules", kOnly, "true yes 1",
     "write the layers to adapt: target_modules: [gate_proj, up_proj, down_proj]"},
    {"finetune_mlp_modules", kOnly, "true yes 1",
     "write the layers to adapt: target_modules: [q_proj, k_proj, v_proj, o_proj]"},
    {"freeze_mm_modules", kOnly, "true yes 1", "write lora_towers: [language, vision, audio, projectors]"},
    {"unfrozen_parameters", kOff, "", "the base model's weights stay frozen; delete it"},

    // The model and its tokenizer.
    {"trust_remote_code model_type tokenizer_type processor_type tokenizer_use_fast use_fast_tokenizer "
     "tokenizer_legacy tokenizer_use_mistral_common is_falcon_derived_model is_llama_derived_model "
     "is_mistral_derived_model is_qwen_derived_model strict use_cache use_kv_cache infer_backend infer_dtype vllm_* "
     "sglang_* kt_* ignore_pad_token_for_loss do_sample temperature top_p top_k num_beams max_new_tokens "
     "repetition_penalty length_penalty skip_special_tokens max_prompt_length max_prompt_len max_completion_length "
     "experimental_skip_move_to_device full_determinism ignore_bias_buffers",
     kIgnored, "", "read from the checkpoint, or not used in training"},
    {"model_revision revision", kOnly, "main", "name the folder of that revision as base_model"},
    {"base_model_config tokenizer_config cls_model_config tokenizer_name tokenizer_name_or_path config_name "
     "processor_kwargs model_init_kwargs",
     kOff, "", "model and tokenizer are those of base_model; delete it"},
    {"resize_vocab", kIgnored, "", "embeddings get the rows that add_tokens needs"},
    {"mean_resizing_embeddings", kOnly, "true yes 1", "new rows begin as the mean of the others; delete it"},
    {"new_special_tokens_config init_special_tokens added_tokens_overrides", kOff, "noise_init",
     "name new tokens in add_tokens or add_special_tokens; their rows begin as the mean of the others"},
    {"resize_token_embeddings_to_32x shrink_embeddings fix_untrained_tokens split_special_tokens", kOff, "",
     "the vocabulary gets the rows of add_tokens and no others; delete it"},
    {"special_tokens bos_token eos_token pad_token unk_token eot_tokens", kOff,
     "<bos> <eos> <pad> <unk> <turn|> <end_of_turn>", "special tokens are those of the tokenizer; delete it"},
    {"rope_scaling rope_theta use_pose pose_* shift_attn s2_attention mixture_of_depths scaling_softmax*", kOff, "",
     "positions and attention are those of the checkpoint; delete it"},
};

}  // namespace

std::span<const ForeignKey> foreign_keys() { return kRows; }

}  // namespace bezel::train
