#include "bezel/data/dataset.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

#include <ATen/Parallel.h>

#include "bezel/data/answer.h"
#include "bezel/data/audio.h"
#include "bezel/data/audio_probe.h"
#include "bezel/data/image.h"
#include "bezel/data/token_check.h"
#include "bezel/error.h"
#include "bezel/gemma4/media_size.h"
#include "bezel/io/file_sample.h"

namespace bezel::data {
namespace {

constexpr std::size_t kMaxListed = 100;
// Lines are read side by side a strip at a time, which bounds what is read in vain behind a bad line.
constexpr std::size_t kStripLines = 512;
constexpr std::int64_t kGrainLines = 8;

std::span<const std::byte> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Puts the line in front of what a decoder or the tokenizer says.
Error located(const Error& error, const std::string& source) {
  const std::string what = error.what();
  if (what.compare(0, source.size(), source) == 0) return error;
  return Error(error.kind(), source, ": ", what);
}

}  // namespace

std::optional<Sample> make_sample(const Tokenizer& tokenizer, const SampleText& text, std::vector<ImagePatches> images,
                                  std::vector<AudioFrames> recordings, std::size_t max_tokens) {
  std::vector<std::int64_t> image_tokens, audio_tokens;
  for (const ImagePatches& image : images) image_tokens.push_back(image.num_soft_tokens);
  for (const AudioFrames& audio : recordings) audio_tokens.push_back(audio.soft_rows.size(0));
  auto tokens = tokenize_sample(tokenizer, expand_placeholders(text, image_tokens, audio_tokens), max_tokens);
  if (!tokens) return std::nullopt;
  return Sample{.input_ids = std::move(tokens->input_ids),
                .labels = std::move(tokens->labels),
                .token_types = std::move(tokens->token_types),
                .images = std::move(images),
                .recordings = std::move(recordings)};
}

Dataset::Dataset(DatasetOptions options, std::shared_ptr<const Tokenizer> tokenizer)
    : options_(std::move(options)), tokenizer_(std::move(tokenizer)), file_(options_.file) {
  if (options_.media_root.empty()) options_.media_root = folder_of(options_.file);
  check_tokenizer();
  read_lines();
  fingerprint_ = io::sha256(file_.sha256() + media_hash_.finish());
  if (!entries_.empty()) return;
  if (report_.num_lines == 0) throw Error(options_.file, ": no samples, the file is empty");
  throw Error(options_.file, ": no sample is left: of ", report_.num_lines, " lines ", report_.num_bad, " are bad and ",
              report_.num_too_long, " are longer than max_seq_length = ", options_.max_seq_length,
              report_.bad.empty() ? "" : "; the first bad one: " + report_.bad[0]);
}

void Dataset::check_tokenizer() const {
  check_tokens(*tokenizer_, options_.sample.chat.format, options_.ids, options_.allow_images, options_.allow_audio);
}

SampleText Dataset::read_line(std::size_t line_idx) const {
  const std::string source = file_.source(line_idx);
  io::JsonLimits limits;
  limits.max_bytes = kMaxLineBytes;
  limits.keeps_big_integers = true;
  SampleText text = read_sample(io::parse_json(file_.read(line_idx), source, limits), source, options_.sample);
  if (!text.images.empty() && !options_.allow_images)
    throw Error(source, ": has ", text.images.size(), " images, but the model has no vision tower");
  if (!text.audios.empty() && !options_.allow_audio)
    throw Error(source, ": has ", text.audios.size(), " recordings, but the model has no audio tower");
  return text;
}

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
  options_.on_progress = nullptr;  // what it stands for may not outlive this
}

Dataset::ScannedLine Dataset::scan_line(std::size_t line_idx) const {
  const std::string source = file_.source(line_idx);
  ScannedLine line;
  try {
    const SampleText text = read_line(line_idx);
    line.notes = text.notes;
    line.media = probe_media(text, source);
    std::vector<std::int64_t> image_tokens, audio_tokens;
    for (const MediaInfo& media : line.media)
      (media.kind == MediaKind::kImage ? image_tokens : audio_tokens).push_back(media.soft_tokens);
    const auto tokens =
        tokenize_sample(*tokenizer_, expand_placeholders(text, image_tokens, audio_tokens), options_.max_seq_length);
    line.too_long = !tokens;
    if (line.too_long) return line;
    if (tokens->num_labels == 0) throw Error(source, ": no token carries loss, so there is nothing to learn");
    const auto sum = [](const std::vector<std::int64_t>& counts) {
      return static_cast<std::size_t>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}));
    };
    line.was_cut = tokens->was_cut;
    line.size = {tokens->input_ids.size(), tokens->num_labels,  image_tokens.size(),
                 sum(image_tokens),        audio_tokens.size(), sum(audio_tokens)};
  } catch (const Error& error) {
    line.error.emplace(located(error, source));
  }
  return line;
}

std::vector<std::string> Dataset::left_out_notes() const {
  return describe_left_out(report_, options_.max_seq_length,
                           options_.media.audio.max_samples / gemma4::kAudioSampleRate);
}

void Dataset::add_line(std::size_t line_idx, const ScannedLine& line) {
  for (const MediaInfo& media : line.media) media_hash_.update(media.fingerprint);
  if (line.error) {
    if (!options_.skip_bad_samples) throw *line.error;
    if (report_.num_bad++ < kMaxListed) report_.bad.push_back(line.error->what());
  } else if (line.too_long) {
    if (report_.num_too_long++ == 0) report_.first_too_long = file_.source(line_idx);
  } else {
    report_.num_cut += line.was_cut;
    report_.num_tokens += line.size.tokens;
    report_.num_labels += line.size.label_tokens;
    const std::string source = file_.source(line_idx);
    report_.thoughts.add(line.notes.thoughts_left_out, source);
    report_.added_requests.add(line.notes.added_requests, source);
    report_.empty_answers.add(line.notes.empty_answers, source);
    for (const MediaInfo& media : line.media) report_.long_recordings.add(media.is_cut, source);
    entries_.push_back({line_idx, line.size});
  }
}

std::string Dataset::resolve(const MediaSource& source, std::string_view name) const {
  return resolve_media_path(options_.media_root, source.path, name);
}

std::vector<MediaInfo> Dataset::probe_media(const SampleText& text, std::string_view name) const {
  std::vector<MediaInfo> media;
  for (const MediaSource& image : text.images) media.push_back(probe(image, name));
  for (const MediaSource& audio : text.audios) media.push_back(probe(audio, name));
  return media;
}

MediaInfo Dataset::probe(const MediaSource& source, std::string_view name) const {
  MediaInfo info{.kind = source.kind, .path = source.path};
  const std::string path = source.bytes.empty() ? resolve(source, name) : "";
  if (!path.empty()) {
    const io::RegularFile file(path);
    io::Sha256 hash;
    hash.update(std::to_string(file.size_bytes()) + "\n");
    io::update_with_samples(hash, file, 0, file.size_bytes());
    info.fingerprint = hash.finish();
  }
  if (source.kind == MediaKind::kImage) {
    info.size = path.empty() ? probe_image_size(as_bytes(source.bytes), name) : probe_image_file(path);
    const ImageSettings& image = options_.media.image;
    info.soft_tokens = gemma4::image_soft_tokens(info.size.height, info.size.width, image.patch_size,
                                                 image.max_soft_tokens, image.pooling);
    return info;
  }
  const std::int64_t most = options_.media.audio.max_samples;
  const AudioLength length =
      path.empty() ? probe_audio_bytes(source.bytes, most, name) : probe_audio_file(path, most, name);
  info.samples = length.samples;
  info.is_cut = length.is_cut;
  info.soft_tokens = gemma4::audio_soft_tokens(info.samples);
  if (info.soft_tokens == 0)
    throw Error(name, ": a recording of ", info.samples, " samples at 16 kHz is too short for one soft token");
  return info;
}

std::vector<MediaInfo> Dataset::media(std::size_t idx) const { return probe_media(load_text(idx), source(idx)); }

std::optional<Sample> Dataset::load_text_and_media(const SampleText& text, std::size_t line_idx,
                                                   std::size_t max_tokens) const {
  const std::string name = file_.source(line_idx);
  const ImageSettings& image_settings = options_.media.image;
  const AudioSettings& audio_settings = options_.media.audio;
  num_decoded_ += text.images.size() + text.audios.size();
  std::vector<ImagePatches> images;
  std::vector<AudioFrames> recordings;
  for (const MediaSource& image : text.images)
    images.push_back(image.bytes.empty() ? load_image(resolve(image, name), image_settings)
                                         : load_image(as_bytes(image.bytes), name, image_settings));
  for (const MediaSource& audio : text.audios)
    recordings.push_back(audio.bytes.empty() ? load_audio(resolve(audio, name), audio_settings)
                                             : load_audio(as_bytes(audio.bytes), name, audio_settings));
  auto sample = make_sample(*tokenizer_, text, std::move(images), std::move(recordings), max_tokens);
  if (sample) sample->line = file_.line_number(line_idx);
  return sample;
}

Sample Dataset::load(std::size_t idx, bool whole) const {
  const std::string source = this->source(idx);
  try {
    auto sample = load_text_and_media(load_text(idx), entries_[idx].line_idx, whole ? 0 : options_.max_seq_length);
    if (!sample) throw Error(source, ": longer than max_seq_length once its media are decoded");
    // The first token is predicted by none.
    if (!whole && std::all_of(sample->labels.begin() + 1, sample->labels.end(),
                              [](std::int64_t label) { return label == kIgnoreLabel; }))
      throw Error(source, ": no token carries loss once its media are decoded, so there is nothing to learn");
    return std::move(*sample);
  } catch (const Error& error) {
    throw located(error, source);
  }
}

std::optional<PromptSample> Dataset::load_prompt(std::size_t idx) const {
  try {
    auto asked = split_answer(load_text(idx), options_.sample.chat.format);
    if (!asked) return std::nullopt;
    auto sample = load_text_and_media(asked->prompt, entries_[idx].line_idx, /*max_tokens=*/0);
    return PromptSample{std::move(*sample), std::move(asked->prompt.text), std::move(asked->answer)};
  } catch (const Error& error) {
    throw located(error, source(idx));
  }
}

}  // namespace bezel::data
