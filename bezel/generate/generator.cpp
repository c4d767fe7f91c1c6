#include "bezel/generate/generator.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/error.h"

namespace bezel::generate {
namespace {

using torch::Tensor;

std::span<const std::int64_t> values(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {tensor.data_ptr<std::int64_t>(), static_cast<std::size_t>(tensor.numel())};
}

// Those of `places` within [begin, end), counted from begin, and where they start in the list.
struct Stretch {
  Tensor rows;  // int64 [n]
  std::int64_t first = 0;
};

Stretch stretch_of(std::span<const std::int64_t> places, std::int64_t begin, std::int64_t end) {
  const auto first = std::ranges::lower_bound(places, begin), last = std::ranges::lower_bound(places, end);
  return {at::tensor(std::vector<std::int64_t>(first, last), at::kLong) - begin, first - places.begin()};
}

// Where to end a chunk that should end at `end`, so that it holds pictures as a whole.
std::int64_t chunk_end(std::span<const std::int64_t> types, std::int64_t begin, std::int64_t end) {
  const auto size = static_cast<std::int64_t>(types.size());
  const auto inside = [&](std::int64_t at) {  // a cut before `at` would split a picture
    return at > begin && at < size && types[at] == 1 && types[at - 1] == 1;
  };
  end = std::min(end, size);
  std::int64_t cut = end;
  while (inside(cut)) --cut;
  if (cut > begin) return cut;
  while (inside(end)) ++end;
  return end;
}

}  // namespace

Generator::Generator(gemma4::Model model, std::int64_t chunk_tokens, gemma4::PhaseObserver observer)
    : model_(std::move(model)),
      chunk_tokens_(chunk_tokens),
      observer_(std::move(observer)),
      cache_(model_->config().text) {
  TORCH_CHECK(chunk_tokens > 0, "a chunk holds a token at least, not ", chunk_tokens);
  model_->eval();
}

void Generator::ended(gemma4::Phase phase) const {
  if (observer_) observer_(phase);
}

void Generator::forget() {
  cache_ = KvCache(model_->config().text);
  tokens_.clear();
}

std::int64_t Generator::room() const {
  return model_->config().text.max_position_embeddings - static_cast<std::int64_t>(tokens_.size());
}

// Whether the prompt goes on where reading ended, outside of any picture or recording.
bool Generator::continues(const data::Batch& prompt) const {
  const auto ids = values(prompt.input_ids), types = values(prompt.mm_token_type_ids);
  if (tokens_.size() >= ids.size() || !std::ranges::equal(ids.first(tokens_.size()), tokens_)) return false;
  return tokens_.empty() || types[tokens_.size()] == 0 || types[tokens_.size() - 1] == 0;
}

Generator::SoftTokens Generator::image_tokens(const data::Batch& prompt) {
  const auto places = values(prompt.image_rows);
  data::Batch unread;
  std::size_t done = 0;
  for (const data::ImagePatches& image : prompt.images) {
    if (!unread.images.empty() || places[done] >= static_cast<std::int64_t>(tokens_.size()))
      unread.images.push_back(image);
    else
      done += static_cast<std::size_t>(image.num_soft_tokens);
  }
  const Tensor rows = model_->image_features(unread.to(model_->head()->device()));
  if (rows.defined()) ended(gemma4::Phase::kVision);
  return {{places.begin() + static_cast<std::ptrdiff_t>(done), places.end()}, rows};
}

Generator::SoftTokens Generator::audio_tokens(const data::Batch& prompt) {
  const auto places = values(prompt.audio_rows);
  data::Batch unread;
  std::size_t done = 0;
  for (const data::AudioFrames& recording : prompt.recordings) {
    if (!unread.recordings.empty() || places[done] >= static_cast<std::int64_t>(tokens_.size()))
      unread.recordings.push_back(recording);
    else
      done += static_cast<std::size_t>(recording.soft_rows.size(0));
  }
  const Tensor rows = model_->audio_features(unread.to(model_->head()->device()));
  if (rows.defined()) ended(gemma4::Phase::kAudio);
  return {{places.begin() + static_cast<std::ptrdiff_t>(done), places.end()}, rows};
}

// Reads up to position `end`; the state of its last token.
Tensor Generator::read_chunk(const data::Batch& prompt, std::int64_t end, const SoftTokens& images,
                             const SoftTokens& recordings) {
  const auto begin = static_cast<std::int64_t>(tokens_.size());
  data::Batch chunk;
  chunk.input_ids = prompt.input_ids.narrow(1, begin, end - begin);
  chunk.mm_token_type_ids = prompt.mm_token_type_ids.narrow(1, begin, end - begin);
  chunk.media_rows = stretch_of(values(prompt.media_rows), begin, end).rows;
  const auto take = [&](const SoftTokens& soft, Tensor& rows) {
    const Stretch stretch = stretch_of(soft.places, begin, end);
    rows = stretch.rows;
    return rows.size(0) > 0 ? soft.rows.narrow(0, stretch.first, rows.size(0)) : Tensor();
  };
  const Tensor own_images = take(images, chunk.image_rows), own_recordings = take(recordings, chunk.audio_rows);
  const Tensor state = model_->next_state(chunk.to(model_->head()->device()), own_images, own_recordings, cache_);
  ended(gemma4::Phase::kDecoder);
  const auto ids =
      values(prompt.input_ids).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  return state;
}

Tensor Generator::read(const data::Batch& prompt, const std::function<bool()>& should_stop) {
  TORCH_CHECK(prompt.input_ids.size(0) == 1 && !prompt.has_padding, "a prompt is one row without padding");
  const at::NoGradGuard no_grad;
  if (!continues(prompt)) forget();
  const std::int64_t size = prompt.input_ids.size(1);
  if (const std::int64_t most = model_->config().text.max_position_embeddings; size > most)
    throw Error("the prompt has ", size, " tokens, the model's context (max_position_embeddings) is ", most);
  const SoftTokens images = image_tokens(prompt), recordings = audio_tokens(prompt);
  Tensor state;
  for (auto begin = static_cast<std::int64_t>(tokens_.size()); begin < size;
       begin = static_cast<std::int64_t>(tokens_.size())) {
    if (should_stop && should_stop()) return {};
    const std::int64_t end = chunk_end(values(prompt.mm_token_type_ids), begin, begin + chunk_tokens_);
    state = read_chunk(prompt, end, images, recordings);
  }
  return next_logits(state);
}

Tensor Generator::next_logits(const Tensor& state) {
  Tensor logits = model_->logits(state).select(0, 0).to(torch::kCPU, torch::kFloat);
  ended(gemma4::Phase::kHead);
  return logits;
}

Tensor Generator::read(std::int64_t token) {
  const at::NoGradGuard no_grad;
  data::Batch row;
  row.input_ids = at::full({1, 1}, token, at::TensorOptions(at::kLong).device(model_->head()->device()));
  // A placeholder that the model made up stands for nothing; the reference embeds padding for it, too.
  const gemma4::ModelConfig& config = model_->config();
  if (token == config.image_token_id || token == config.audio_token_id || token == config.video_token_id)
    row.media_rows = at::zeros({1}, row.input_ids.options());
  const Tensor state = model_->next_state(row, {}, {}, cache_);
  ended(gemma4::Phase::kDecoder);
  tokens_.push_back(token);
  return next_logits(state);
}

Generated generate(Generator& generator, const data::Batch& prompt, Sampler& sampler, const GenerateOptions& options,
                   const std::function<bool(std::int64_t)>& on_token) {
  Generated out;
  Tensor logits = generator.read(prompt, [&] { return on_token && !on_token(-1); });
  const std::int64_t most = std::min(options.max_new_tokens, generator.room());
  if (most < options.max_new_tokens && generator.room() == 0)
    throw Error("the prompt of ", generator.tokens().size(), " tokens fills the model's context");
  while (logits.defined()) {
    const std::span<const float> row{logits.data_ptr<float>(), static_cast<std::size_t>(logits.numel())};
    const std::int64_t token = sampler.next(row);
    out.tokens.push_back(token);
    const bool goes_on = !on_token || on_token(token);
    if (std::ranges::find(options.stop_ids, token) != options.stop_ids.end()) {
      out.finish = Finish::kStopToken;
      return out;
    }
    if (!goes_on) break;
    if (static_cast<std::int64_t>(out.tokens.size()) >= most) return out;
    logits = generator.read(token);
  }
  out.finish = Finish::kInterrupted;
  return out;
}

}  // namespace bezel::generate
