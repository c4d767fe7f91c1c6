#pragma once

#include <string>

#include "bezel/lora/adapter_io.h"
#include "bezel/train/fingerprint.h"
#include "bezel/train/optimizer.h"
#include "bezel/train/trainer_state.h"

namespace bezel::train {

/// What training_state.json holds.
struct TrainingState {
  std::string run_id;      ///< the same for all sessions of a run
  bool recompute = false;  ///< whether layers ran again in the backward pass
  RunFacts facts;
  TrainerState trainer;
  io::Json random;  ///< see random_states()
};

/// Everything that a checkpoint holds; borrowed.
struct CheckpointParts {
  const lora::Selection& selection;
  const lora::LoraConfig& lora;
  const lora::AdapterBase& base;
  const Optimizer& optimizer;  ///< over the selection's tensors
  const TrainingState& state;
  const std::string& trainer_state;         ///< trainer_state.json
  const std::string& metrics;               ///< metrics.jsonl
  const NamedTensors* residuals = nullptr;  ///< see train/residual_file.h; nothing: none
};

/// Writes the folder `path`, wholly or not at all: a PEFT adapter, optimizer.safetensors, training_state.json,
/// trainer_state.json, metrics.jsonl, and MANIFEST.json last. Throws Error (kIo).
void save_checkpoint(const std::string& path, const CheckpointParts& parts);

/// Reads training_state.json. Throws Error naming the key when it is not one.
TrainingState read_training_state(const std::string& folder);

/// Replaces the adapters' tensors of `selection` and the state of `optimizer`, which moves them, by those of checkpoint
/// `folder`. Throws Error naming the tensor when one is missing, left over or of another shape.
void restore_tensors(const std::string& folder, const lora::Selection& selection, Optimizer& optimizer);

/// Replaces the adapters' tensors alone, by those of an adapter that this run saved.
void restore_parameters(const std::string& folder, const lora::Selection& selection);

}  // namespace bezel::train
