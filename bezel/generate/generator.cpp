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

// Kinds of media whose tokens are among positions begin … end - 1.
input::PerKind<bool> kinds_at(std::span<const std::int64_t> types, std::int64_t begin, std::int64_t end) {
  const auto part = types.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  input::PerKind<bool> kinds;
  for (const input::MediaKind kind : input::kMediaKinds)
    kinds[kind] = std::ranges::find(part, input::kMediaWords[kind].token_type) != part.end();
  return kinds;
}

// Where to end a chunk that should end at `end`, so that it holds images and frames as a whole.
std::int64_t chunk_end(std::span<const std::int64_t> types, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kImage = input::kMediaWords[input::MediaKind::kImage].token_type;
  constexpr std::int64_t kFrame = input::kMediaWords[input::MediaKind::kVideo].token_type;
  const auto size = static_cast<std::int64_t>(types.size());
  const auto inside = [&](std::int64_t at) {  // a cut before `at` would split an image
    return at > begin && at < size && types[at - 1] == types[at] && (types[at] == kImage || types[at] == kFrame);
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

void Generator::reset() {
  cache_ = KvCache(model_->config().text);
  tokens_.clear();
}

std::int64_t Generator::remaining_context() const {
  return model_->config().text.max_position_embeddings - static_cast<std::int64_t>(tokens_.size());
}

// Whether the prompt continues where the prefill ended, outside any image or audio clip.
bool Generator::continues(const input::Batch& prompt) const {
  const auto ids = values(prompt.input_ids), types = values(prompt.mm_token_type_ids);
  if (tokens_.size() >= ids.size() || !std::ranges::equal(ids.first(tokens_.size()), tokens_)) return false;
  return tokens_.empty() || types[tokens_.size()] == 0 || types[tokens_.size() - 1] == 0;
}

Generator::Unread Generator::encode(const input::Batch& prompt) {
  const auto places = values(prompt.soft_rows);
  TORCH_CHECK(std::ranges::is_sorted(places), "the media of a prompt are interleaved");
  input::Batch unread;
  std::size_t done = 0;
  for (const input::Media& media : prompt.media) {
    if (!unread.media.empty() || places[done] >= static_cast<std::int64_t>(tokens_.size()))
      unread.media.push_back(media);
    else
      done += static_cast<std::size_t>(media.num_soft_tokens);
  }
  return {{places.begin() + static_cast<std::ptrdiff_t>(done), places.end()},
          model_->encode(unread.to(model_->device()), observer_).rows};
}

// Reads up to position `end`; the state of its last token.
Tensor Generator::read_chunk(const input::Batch& prompt, std::int64_t end, const Unread& soft) {
  const auto begin = static_cast<std::int64_t>(tokens_.size());
  input::Batch chunk;
  chunk.input_ids = prompt.input_ids.narrow(1, begin, end - begin);
  chunk.mm_token_type_ids = prompt.mm_token_type_ids.narrow(1, begin, end - begin);
  chunk.placeholder_rows = stretch_of(values(prompt.placeholder_rows), begin, end).rows;
  const Stretch stretch = stretch_of(soft.places, begin, end);
  chunk.soft_rows = stretch.rows;
  gemma4::Encoded encoded;
  if (stretch.rows.size(0) > 0) {
    encoded.rows = soft.rows.narrow(0, stretch.first, stretch.rows.size(0));
    encoded.kinds = kinds_at(values(prompt.mm_token_type_ids), begin, end);
  }
  const Tensor state = model_->next_state(chunk.to(model_->device()), encoded, cache_);
  ended(gemma4::Phase::decoder());
  const auto ids =
      values(prompt.input_ids).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  return state;
}

Tensor Generator::prefill(const input::Batch& prompt, const std::function<bool()>& should_stop) {
  TORCH_CHECK(prompt.input_ids.size(0) == 1 && !prompt.has_padding, "a prompt is one row without padding");
  const at::NoGradGuard no_grad;
  if (!continues(prompt)) reset();
  const std::int64_t size = prompt.input_ids.size(1);
  if (const std::int64_t most = model_->config().text.max_position_embeddings; size > most)
    throw Error("the prompt has ", size, " tokens, the model's context (max_position_embeddings) is ", most);
  const Unread soft = encode(prompt);
  Tensor state;
  for (auto begin = static_cast<std::int64_t>(tokens_.size()); begin < size;
       begin = static_cast<std::int64_t>(tokens_.size())) {
    if (should_stop && should_stop()) return {};
    const std::int64_t end = chunk_end(values(prompt.mm_token_type_ids), begin, begin + chunk_tokens_);
    state = read_chunk(prompt, end, soft);
  }
  return next_logits(state);
}

Tensor Generator::next_logits(const Tensor& state) {
  Tensor logits = model_->logits(state).select(0, 0).to(torch::kCPU, torch::kFloat);
  ended(gemma4::Phase::head());
  return logits;
}

Tensor Generator::decode(std::int64_t token) {
  const at::NoGradGuard no_grad;
  input::Batch row;
  row.input_ids = at::full({1, 1}, token, at::TensorOptions(at::kLong).device(model_->device()));
  // A generated placeholder has no media; the reference embeds padding for it, too.
  if (model_->config().placeholder_ids.contains(token)) row.placeholder_rows = at::zeros({1}, row.input_ids.options());
  const Tensor state = model_->next_state(row, {}, cache_);
  ended(gemma4::Phase::decoder());
  tokens_.push_back(token);
  return next_logits(state);
}

Generated generate(Generator& generator, const input::Batch& prompt, Sampler& sampler, const GenerateOptions& options,
                   const std::function<bool(std::int64_t)>& on_token) {
  Generated out;
  Tensor logits = generator.prefill(prompt, [&] { return on_token && !on_token(-1); });
  const std::int64_t most = std::min(options.max_new_tokens, generator.remaining_context());
  if (most < options.max_new_tokens && generator.remaining_context() == 0)
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
    logits = generator.decode(token);
  }
  out.finish = Finish::kInterrupted;
  return out;
}

}  // namespace bezel::generate
