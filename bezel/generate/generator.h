#pragma once

#include <functional>
#include <vector>

#include "bezel/gemma4/model.h"
#include "bezel/gemma4/phase.h"
#include "bezel/generate/kv_cache.h"
#include "bezel/generate/sampler.h"
#include "bezel/input/batch.h"

namespace bezel::generate {

/// Reads one sequence into a model and says what may come next. No graph is kept.
class Generator {
 public:
  /// Prompts are read `chunk_tokens` at a time, an image always as a whole. The model is put into eval mode.
  /// `observer` is called after each phase.
  explicit Generator(gemma4::Model model, std::int64_t chunk_tokens = 512, gemma4::PhaseObserver observer = {});

  /// Reads a prompt of one row; where it begins with all tokens read so far, only the rest. Images and audio clips
  /// already read must then be the same. Logits [V] of the next token, float32 on the CPU; undefined when
  /// `should_stop`, asked before each chunk, said so. Throws Error when the prompt is longer than the model's context.
  torch::Tensor prefill(const input::Batch& prompt, const std::function<bool()>& should_stop = {});
  /// Reads one token more; the same logits.
  torch::Tensor decode(std::int64_t token);

  /// Forgets what was read, so that another sequence can follow.
  void reset();

  /// Tokens read so far.
  const std::vector<std::int64_t>& tokens() const { return tokens_; }
  /// Tokens that still fit into the model's context.
  std::int64_t remaining_context() const;
  const KvCache& cache() const { return cache_; }

 private:
  /// The soft tokens that are still to be read, by their places in the row.
  struct Unread {
    std::vector<std::int64_t> places;
    torch::Tensor rows;  // [places, H]
  };

  bool continues(const input::Batch& prompt) const;
  Unread encode(const input::Batch& prompt);
  torch::Tensor read_chunk(const input::Batch& prompt, std::int64_t end, const Unread& soft);
  torch::Tensor next_logits(const torch::Tensor& state);
  void ended(gemma4::Phase phase) const;

  gemma4::Model model_;
  std::int64_t chunk_tokens_;
  gemma4::PhaseObserver observer_;
  KvCache cache_;
  std::vector<std::int64_t> tokens_;
};

struct GenerateOptions {
  std::int64_t max_new_tokens = 512;
  std::vector<std::int64_t> stop_ids;
};

enum class Finish { kStopToken, kLength, kInterrupted };

struct Generated {
  std::vector<std::int64_t> tokens;  ///< the stop token, if one came, is the last
  Finish finish = Finish::kLength;
};

/// Generates after `prompt`; `on_token` is called with every token and stops generation by returning false. It is
/// called with -1 while the prompt is read. Throws Error when the prompt leaves no space in the model's context.
Generated generate(Generator& generator, const input::Batch& prompt, Sampler& sampler, const GenerateOptions& options,
                   const std::function<bool(std::int64_t token)>& on_token = {});

}  // namespace bezel::generate
