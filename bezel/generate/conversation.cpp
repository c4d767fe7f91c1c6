#include "bezel/generate/conversation.h"

#include <algorithm>

#include "bezel/data/audio.h"
#include "bezel/data/checkpoint_template.h"
#include "bezel/data/dataset.h"
#include "bezel/data/image.h"
#include "bezel/data/sample_media.h"
#include "bezel/data/token_check.h"
#include "bezel/error.h"

namespace bezel::generate {
namespace {

using io::Json;

constexpr std::string_view kImage = "<|image|>", kAudio = "<|audio|>";

// The content of a user message: text alone, or parts with the media that the text does not place itself.
Json content_of(const Question& question) {
  Json parts = Json::array();
  if (data::count_of(question.text, kImage) == 0)
    parts.insert(parts.end(), question.images.size(), Json{{"type", "image"}});
  if (data::count_of(question.text, kAudio) == 0)
    parts.insert(parts.end(), question.audios.size(), Json{{"type", "audio"}});
  if (parts.empty()) return question.text;
  parts.push_back({{"type", "text"}, {"text", question.text}});
  return parts;
}

void check_count(std::string_view text, std::string_view placeholder, std::size_t given, const char* what) {
  const std::size_t typed = data::count_of(text, placeholder);
  if (typed != 0 && typed != given)
    throw Error("the prompt holds ", typed, " ", placeholder, ", but ", given, " ", what, " are given");
}

}  // namespace

Conversation::Conversation(const std::string& folder, const gemma4::ModelConfig& config, ConversationOptions options)
    : tokenizer_(data::Tokenizer::of_model(folder)),
      ids_{config.image_token_id, config.video_token_id, config.audio_token_id},
      options_(std::move(options)),
      format_(data::detect_chat_format(config)),
      template_(options_.raw ? nullptr : data::CheckpointTemplate::load(folder, options_.chat_template)),
      pad_id_(config.text.pad_token_id),
      has_vision_(config.vision.has_value()),
      has_audio_(config.audio.has_value()) {
  if (has_vision_ || has_audio_) media_ = data::read_processor_config(folder);
  if (options_.max_soft_tokens) {
    data::check_image_budget(*options_.max_soft_tokens);
    media_.image.max_soft_tokens = *options_.max_soft_tokens;
  }
  data::check_tokens(tokenizer_, format_, ids_, has_vision_, has_audio_);
  clear();
}

void Conversation::check_media(const Question& question) const {
  if (!question.images.empty() && !has_vision_) throw Error(question.images[0], ": the model has no vision tower");
  if (!question.audios.empty() && !has_audio_) throw Error(question.audios[0], ": the model has no audio tower");
  check_count(question.text, kImage, question.images.size(), "pictures");
  check_count(question.text, kAudio, question.audios.size(), "recordings");
  if (data::count_of(question.text, "<|video|>") != 0)
    throw Error("the prompt holds <|video|>, but video is not supported");
}

void Conversation::ask(const Question& question) {
  check_media(question);
  std::vector<data::ImagePatches> images;
  std::vector<data::AudioFrames> recordings;
  for (const std::string& path : question.images) images.push_back(data::load_image(path, media_.image));
  for (const std::string& path : question.audios) recordings.push_back(data::load_audio(path, media_.audio));
  messages_.push_back({{"role", "user"}, {"content", content_of(question)}});
  images_.insert(images_.end(), images.begin(), images.end());
  recordings_.insert(recordings_.end(), recordings.begin(), recordings.end());
}

void Conversation::answer(std::span<const std::int64_t> tokens) {
  std::vector<std::int64_t> kept(tokens.begin(), tokens.end());
  // A placeholder that the model made up stands for no picture, and an id beyond the tokenizer's for no text.
  std::erase_if(kept, [&](std::int64_t id) {
    return id == ids_.image || id == ids_.audio || id == ids_.video || id >= tokenizer_.vocab_size();
  });
  std::string text = tokenizer_.decode(kept);
  for (const std::string_view end : {data::chat_tokens(format_).end, std::string_view("<eos>")})
    if (text.ends_with(end)) text = text.substr(0, text.size() - end.size());
  messages_.push_back({{"role", "assistant"}, {"content", text}});
}

void Conversation::clear() {
  messages_ = Json::array();
  if (!options_.system.empty()) messages_.push_back({{"role", "system"}, {"content", options_.system}});
  images_.clear();
  recordings_.clear();
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
    for (const Json& part : content)
      text += part.at("type") == "text" ? part.at("text").get<std::string>()
                                        : std::string(part.at("type") == "image" ? kImage : kAudio);
  return text.starts_with("<bos>") ? text : "<bos>" + text;
}

data::Batch Conversation::prompt() const {
  TORCH_CHECK(!messages_.empty(), "a prompt needs a question");
  const data::SampleText whole{.text = text()};
  const auto sample = data::make_sample(tokenizer_, whole, images_, recordings_, /*max_tokens=*/0);
  return data::collate({&*sample, 1}, pad_id_);
}

}  // namespace bezel::generate
