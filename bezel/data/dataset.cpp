#include "bezel/data/dataset.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <ATen/Parallel.h>

#include "bezel/data/answer.h"
#include "bezel/data/token_check.h"
#include "bezel/error.h"

namespace bezel::data {
namespace {

constexpr std::size_t kMaxListed = 100;
// Lines are read side by side a strip at a time, which bounds what is read in vain behind a bad line.
constexpr std::size_t kStripLines = 512;
constexpr std::int64_t kGrainLines = 8;

SampleFiles open_files(const DatasetOptions& options) {
  if (options.files.empty()) return SampleFiles({{.path = options.file, .media_root = options.media_root}});
  return SampleFiles(options.files);
}

// Puts the line in front of what a decoder or the tokenizer says.
Error located(const Error& error, const std::string& source) {
  const std::string what = error.what();
  if (what.compare(0, source.size(), source) == 0) return error;
  return Error(error.kind(), source, ": ", what);
}

}  // namespace

std::optional<Sample> make_sample(const Tokenizer& tokenizer, const SampleText& text, std::vector<LoadedMedia> media,
                                  std::size_t max_tokens, std::span<const ExpandedText::Span> wider_spans) {
  std::vector<MediaTokens> media_tokens;
  std::vector<Media> items;
  for (LoadedMedia& item : media) {
    media_tokens.push_back(std::move(item.tokens));
    std::ranges::move(item.items, std::back_inserter(items));
  }
  auto tokens = tokenize_sample(tokenizer, expand_placeholders(text, media_tokens, wider_spans), max_tokens);
  if (!tokens) return std::nullopt;
  Sample sample{.input_ids = std::move(tokens->input_ids),
                .labels = std::move(tokens->labels),
                .token_types = std::move(tokens->token_types),
                .media = std::move(items)};
  if (!wider_spans.empty()) sample.answer_labels = std::exchange(sample.labels, std::move(tokens->wider_labels));
  return sample;
}

Dataset::Dataset(DatasetOptions options, std::shared_ptr<const Tokenizer> tokenizer)
    : options_(std::move(options)), tokenizer_(std::move(tokenizer)), file_(open_files(options_)) {
  check_tokenizer();
  read_lines();
  fingerprint_ = io::sha256(file_.sha256() + media_hash_.finish());
  if (!entries_.empty()) return;
  if (report_.num_lines == 0) throw Error(name(), ": no samples, the file is empty");
  throw Error(name(), ": no sample is left: of ", report_.num_lines, " lines ", report_.num_bad, " are bad and ",
              report_.num_too_long, " are longer than max_seq_length = ", options_.max_seq_length,
              report_.bad.empty() ? "" : "; the first bad one: " + report_.bad[0]);
}

void Dataset::check_tokenizer() const {
  check_tokens(*tokenizer_, options_.sample.chat.format, options_.ids, options_.allowed);
}

std::vector<AnswerText> Dataset::read_line(std::size_t line_idx) const {
  const std::string source = file_.source(line_idx);
  std::vector<AnswerText> answers =
      read_answers(file_.read_json(line_idx), source, options_.kind, options_.learns_prompt, options_.sample);
  for (const MediaKind kind : input::kMediaKinds) {
    const auto count = std::ranges::count(answers[0].text.media, kind, &MediaSource::kind);
    if (count > 0 && !options_.allowed[kind])
      throw Error(source, ": has ", count, " ", input::kMediaWords[kind].count, ", but the model has no ",
                  input::kMediaWords[kind].encoder);
    if (count > 0) check_placeholder(*tokenizer_, kind, options_.ids);
  }
  return answers;
}

// Those that sample `idx` is made of.
std::vector<AnswerText> Dataset::answers_of(std::size_t idx) const {
  std::vector<AnswerText> answers = read_line(entries_[idx].line_idx);
  if (options_.kind != LineKind::kLabelled) return answers;
  return {std::move(answers.at(entries_[idx].part))};
}

SampleText Dataset::load_text(std::size_t idx) const { return std::move(answers_of(idx)[0].text); }

void Dataset::read_lines() {
  report_.num_lines = file_.size();
  for (std::size_t begin = 0; begin < file_.size(); begin += kStripLines) {
    std::vector<ScannedLine> lines(std::min(kStripLines, file_.size() - begin));
    at::parallel_for(0, static_cast<std::int64_t>(lines.size()), kGrainLines, [&](std::int64_t from, std::int64_t to) {
      for (auto i = static_cast<std::size_t>(from); i < static_cast<std::size_t>(to); ++i)
        lines[i] = scan_line(begin + i);
    });
    for (std::size_t i = 0; i < lines.size(); ++i) add_line(begin + i, lines[i]);
    if (options_.on_progress) options_.on_progress(begin + lines.size(), file_.size());
  }
  // Good answers of pairs before bad ones: neighbors have different prompts, which KTO's divergence needs.
  std::ranges::stable_sort(entries_, {}, &Entry::part);
  options_.on_progress = nullptr;       // valid only while this lives
  options_.sample.takes_notes = false;  // report_ has them
}

// A pair as one sample.
Dataset::Measured Dataset::joined(const Measured& chosen, const Measured& rejected) {
  Measured pair = chosen;
  pair.too_long = chosen.too_long || rejected.too_long;
  pair.was_cut = chosen.was_cut || rejected.was_cut;
  pair.pair_prefix = chosen.prefix.common(rejected.prefix);
  pair.size.tokens += rejected.size.tokens;
  pair.size.label_tokens += rejected.size.label_tokens;
  for (const MediaKind kind : input::kMediaKinds) {
    pair.size.media[kind].items += rejected.size.media[kind].items;
    pair.size.media[kind].soft_tokens += rejected.size.media[kind].soft_tokens;
  }
  return pair;
}

Dataset::Measured Dataset::measure(const AnswerText& answer, std::span<const MediaInfo> media) const {
  std::vector<MediaTokens> media_tokens;
  for (const MediaInfo& item : media) media_tokens.push_back(item.tokens);
  const auto tokens = tokenize_sample(*tokenizer_, expand_placeholders(answer.text, media_tokens, answer.prompt_spans),
                                      options_.max_seq_length);
  Measured measured{.too_long = !tokens};
  if (measured.too_long) return measured;
  check_rows(tokens->input_ids);
  if (tokens->num_labels == 0) throw Error("no token carries loss, so there is nothing to learn");
  measured.was_cut = tokens->was_cut;
  measured.size = {.tokens = tokens->input_ids.size(),
                   .label_tokens = std::max(tokens->num_labels, tokens->num_wider_labels)};
  for (const MediaInfo& item : media) {
    MediaCount& count = measured.size.media[item.kind];
    ++count.items;
    count.soft_tokens += static_cast<std::size_t>(item.soft_tokens());
  }
  if (options_.hashes_prefixes) measured.prefix = PrefixHashes(*tokens, media);
  return measured;
}

Dataset::ScannedLine Dataset::scan_line(std::size_t line_idx) const {
  const std::string source = file_.source(line_idx);
  ScannedLine line;
  try {
    const std::vector<AnswerText> answers = read_line(line_idx);
    line.notes = answers[0].text.notes;
    line.media = probe(answers[0].text, line_idx);
    for (const AnswerText& answer : answers) {
      line.roles.push_back(answer.role);
      line.samples.push_back(measure(answer, line.media));
    }
    if (options_.kind == LineKind::kPair) line.samples = {joined(line.samples[0], line.samples[1])};
  } catch (const Error& error) {
    line.error.emplace(located(error, source));
  }
  return line;
}

std::vector<std::string> Dataset::left_out_notes() const {
  return describe_left_out(report_, options_.max_seq_length,
                           options_.media.audio.max_samples / input::kAudioSampleRate);
}

void Dataset::check_rows(std::span<const std::int64_t> ids) const {
  if (!options_.missing_row) return;
  for (const std::int64_t id : ids)
    if (const std::string why = options_.missing_row(id); !why.empty())
      throw Error("the token '", tokenizer_->word(id), "' (", id, ") has no embedding: ", why);
}

void Dataset::add_line(std::size_t line_idx, const ScannedLine& line) {
  for (const MediaKind kind : input::kMediaKinds)  // as it always was, so that runs find themselves again
    for (const MediaInfo& media : line.media)
      if (media.kind == kind) media_hash_.update(media.fingerprint);
  if (line.error) {
    if (!options_.skip_bad_samples) throw *line.error;
    if (report_.num_bad++ < kMaxListed) report_.bad.push_back(line.error->what());
    return;
  }
  const std::string source = file_.source(line_idx);
  bool is_used = false;
  for (std::size_t part = 0; part < line.samples.size(); ++part) {
    const Measured& sample = line.samples[part];
    if (sample.too_long) {
      if (report_.num_too_long++ == 0) report_.first_too_long = source;
      continue;
    }
    report_.num_cut += sample.was_cut;
    report_.num_tokens += sample.size.tokens;
    report_.num_labels += sample.size.label_tokens;
    entries_.push_back({line_idx, sample.size, line.roles[part], part, sample.prefix, sample.pair_prefix});
    is_used = true;
  }
  if (is_used) {
    report_.thoughts.add(line.notes.thoughts_left_out, source);
    report_.added_requests.add(line.notes.added_requests, source);
    report_.empty_answers.add(line.notes.empty_answers, source);
    for (const MediaInfo& media : line.media) report_.long_audio_clips.add(media.is_cut, source);
  }
}

std::string Dataset::name() const {
  std::string names = file_.file(0).path;
  for (std::size_t i = 1; i < file_.num_files(); ++i) names += ", " + file_.file(i).path;
  return names;
}

const std::string& Dataset::media_root(std::size_t line_idx) const {
  return file_.file(file_.file_idx(line_idx)).media_root;
}

std::vector<MediaInfo> Dataset::probe(const SampleText& text, std::size_t line_idx) const {
  const std::string name = file_.source(line_idx);
  std::vector<MediaInfo> media;
  for (const MediaSource& item : text.media)
    media.push_back(probe_media(item, media_root(line_idx), name, options_.media));
  return media;
}

std::vector<MediaInfo> Dataset::media(std::size_t idx) const { return probe(load_text(idx), entries_[idx].line_idx); }

std::vector<LoadedMedia> Dataset::decode(const SampleText& text, std::size_t line_idx) const {
  const std::string name = file_.source(line_idx);
  num_decoded_ += text.media.size();
  std::vector<LoadedMedia> media;
  for (const MediaSource& item : text.media)
    media.push_back(load_media(item, media_root(line_idx), name, options_.media));
  return media;
}

Sample Dataset::make_row(const AnswerText& answer, std::vector<LoadedMedia> media, std::size_t line_idx,
                         bool whole) const {
  const std::size_t max_tokens = whole ? 0 : options_.max_seq_length;
  auto sample = make_sample(*tokenizer_, answer.text, std::move(media), max_tokens, answer.prompt_spans);
  if (!sample) throw Error("longer than max_seq_length once its media are decoded");
  // No position predicts the first token.
  const auto& answered = sample->answer_labels.empty() ? sample->labels : sample->answer_labels;
  if (!whole &&
      std::all_of(answered.begin() + 1, answered.end(), [](std::int64_t label) { return label == kIgnoreLabel; }))
    throw Error("no token carries loss once its media are decoded, so there is nothing to learn");
  sample->line = file_.line_number(line_idx);
  sample->role = answer.role;
  return std::move(*sample);
}

Sample Dataset::load(std::size_t idx, bool whole) const {
  const std::string source = this->source(idx);
  try {
    const AnswerText answer = std::move(answers_of(idx)[0]);
    return make_row(answer, decode(answer.text, entries_[idx].line_idx), entries_[idx].line_idx, whole);
  } catch (const Error& error) {
    throw located(error, source);
  }
}

std::vector<Sample> Dataset::load_rows(std::size_t idx, bool whole) const {
  const std::string source = this->source(idx);
  try {
    const std::vector<AnswerText> answers = answers_of(idx);
    const std::vector<LoadedMedia> media = decode(answers[0].text, entries_[idx].line_idx);  // the prompt's
    std::vector<Sample> rows;
    for (const AnswerText& answer : answers) rows.push_back(make_row(answer, media, entries_[idx].line_idx, whole));
    return rows;
  } catch (const Error& error) {
    throw located(error, source);
  }
}

Sample Dataset::load_tokens(std::size_t idx) const {
  const AnswerText answer = std::move(answers_of(idx)[0]);
  const ExpandedText text{
      .text = answer.text.text, .loss_spans = answer.text.loss_spans, .wider_spans = {}, .media_spans = {}};
  auto tokens = tokenize_sample(*tokenizer_, text, /*max_tokens=*/0);
  return {.input_ids = std::move(tokens->input_ids),
          .labels = std::move(tokens->labels),
          .token_types = std::move(tokens->token_types),
          .media = {},
          .line = file_.line_number(entries_[idx].line_idx),
          .role = answer.role};
}

std::optional<PromptSample> Dataset::load_prompt(std::size_t idx) const {
  try {
    auto asked = split_answer(load_text(idx), options_.sample.chat.format);
    if (!asked) return std::nullopt;
    auto sample = make_sample(*tokenizer_, asked->prompt, decode(asked->prompt, entries_[idx].line_idx),
                              /*max_tokens=*/0);
    sample->line = line(idx);
    return PromptSample{std::move(*sample), std::move(asked->prompt.text), std::move(asked->answer)};
  } catch (const Error& error) {
    throw located(error, source(idx));
  }
}

}  // namespace bezel::data
