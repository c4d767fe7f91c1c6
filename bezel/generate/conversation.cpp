#include "bezel/generate/conversation.h"

#include <algorithm>

#include "bezel/data/checkpoint_template.h"
#include "bezel/data/dataset.h"
#include "bezel/data/media.h"
#include "bezel/data/sample_media.h"
#include "bezel/data/token_check.h"
#include "bezel/error.h"

namespace bezel::generate {
namespace {

using io::Json;

// The content of a user message: text alone, or parts with the media that the text does not place itself.
Json content_of(const Question& question) {
  Json parts = Json::array();
  for (const input::MediaKind kind : input::kMediaKinds)
    if (data::count_of(question.text, input::kMediaWords[kind].placeholder) == 0)
      parts.insert(parts.end(), question.media[kind].size(), Json{{"type", input::kMediaWords[kind].part}});
  if (parts.empty()) return question.text;
  parts.push_back({{"type", "text"}, {"text", question.text}});
  return parts;
}

// What a part is in a text without a template.
std::string raw_text(const Json& part) {
  for (const input::MediaWords& words : input::kMediaWords.values)
    if (part.at("type") == words.part) return std::string(words.placeholder);
  return part.at("text").get<std::string>();
}

void check_count(std::string_view text, const input::MediaWords& words, std::size_t given) {
  const std::size_t typed = data::count_of(text, words.placeholder);
  if (typed != 0 && typed != given)
    throw Error("the prompt holds ", typed, " ", words.placeholder, ", but ", given, " ", words.items, " are given");
}

}  // namespace

Conversation::Conversation(const std::string& folder, const gemma4::ModelConfig& config, ConversationOptions options)
    : tokenizer_(data::Tokenizer::of_model(folder, options.new_tokens)),
      ids_(config.placeholder_ids),
      options_(std::move(options)),
      format_(data::detect_chat_format(config)),
      template_(options_.raw ? nullptr : data::CheckpointTemplate::load(folder, options_.chat_template)),
      pad_id_(config.text.pad_token_id),
      config_(config),
      allowed_(config.media()) {
  if (allowed_ != input::PerKind<bool>{}) media_settings_ = data::media_settings(folder, config);
  if (options_.max_soft_tokens) {
    data::check_image_budget(*options_.max_soft_tokens);
    media_settings_.image.max_soft_tokens = *options_.max_soft_tokens;
  }
  data::apply(options_.video, media_settings_.video);
  data::check_tokens(tokenizer_, format_, ids_, allowed_);
  clear();
}

void Conversation::check_media(const Question& question) const {
  for (const input::MediaKind kind : input::kMediaKinds) {
    const std::vector<std::string>& files = question.media[kind];
    if (!files.empty() && !allowed_[kind])
      throw Error(files[0], ": the model has no ", input::kMediaWords[kind].encoder);
    check_count(question.text, input::kMediaWords[kind], files.size());
    if (!files.empty()) data::check_placeholder(tokenizer_, kind, ids_);
  }
}

void Conversation::ask(const Question& question) {
  check_media(question);
  auto media = media_;
  for (const input::MediaKind kind : input::kMediaKinds)
    for (const std::string& path : question.media[kind])
      media[kind].push_back(data::load_media(kind, path, media_settings_));
  messages_.push_back({{"role", "user"}, {"content", content_of(question)}});
  media_ = std::move(media);
}

void Conversation::answer(std::span<const std::int64_t> tokens) {
  std::vector<std::int64_t> kept(tokens.begin(), tokens.end());
  // A generated placeholder has no image, and an id beyond the tokenizer's has no text.
  std::erase_if(kept, [&](std::int64_t id) { return ids_.contains(id) || id >= tokenizer_.vocab_size(); });
  std::string text = tokenizer_.decode(kept);
  for (const std::string_view end : {data::chat_tokens(format_).end, std::string_view("<eos>")})
    if (text.ends_with(end)) text = text.substr(0, text.size() - end.size());
  messages_.push_back({{"role", "assistant"}, {"content", text}});
}

void Conversation::clear() {
  messages_ = Json::array();
  if (!options_.system.empty()) messages_.push_back({{"role", "system"}, {"content", options_.system}});
  media_ = {};
}

std::string Conversation::text() const {
  if (!options_.raw) {
    const data::ChatOptions chat{.checkpoint_template = template_,
                                 .format = format_,
                                 .enable_thinking = options_.thinking,
                                 .add_generation_prompt = true};
    return data::render_chat(io::JsonView(messages_, "prompt"), nullptr, chat).text;
  }
  std::string text;
  const Json& content = messages_.back().at("content");
  if (content.is_string())
    text = content.get<std::string>();
  else
    for (const Json& part : content) text += raw_text(part);
  return text.starts_with("<bos>") ? text : "<bos>" + text;
}

input::Batch Conversation::prompt() const {
  TORCH_CHECK(!messages_.empty(), "a prompt needs a question");
  const data::SampleText whole{.text = text()};
  const auto sample =
      data::make_sample(tokenizer_, whole, data::in_placeholder_order(whole.text, media_), /*max_tokens=*/0);
  for (const std::int64_t id : sample->input_ids)
    if (const std::string why = config_.missing_row(id); !why.empty())
      throw Error("the prompt's token '", tokenizer_.word(id), "' (", id, ") has no embedding: ", why);
  return data::collate({&*sample, 1}, pad_id_);
}

}  // namespace bezel::generate
