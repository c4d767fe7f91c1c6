#include "bezel/data/dataset.h"

#include <optional>
#include <span>

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

Dataset::Dataset(DatasetOptions options, std::shared_ptr<const Tokenizer> tokenizer)
    : options_(std::move(options)), tokenizer_(std::move(tokenizer)), file_(options_.file) {
  if (options_.media_root.empty()) options_.media_root = folder_of(options_.file);
  check_tokenizer();
  report_.num_lines = file_.size();
  for (std::size_t i = 0; i < file_.size(); ++i) {
    try {
      add_line(i);
    } catch (const Error& error) {
      if (!options_.skip_bad_samples) throw located(error, file_.source(i));
      if (report_.num_bad++ < kMaxListed) report_.bad.push_back(located(error, file_.source(i)).what());
    }
  }
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
  SampleText text = read_sample(io::parse_json(file_.read(line_idx), source, limits), source, options_.sample);
  if (!text.images.empty() && !options_.allow_images)
    throw Error(source, ": has ", text.images.size(), " images, but the model has no vision tower");
  if (!text.audios.empty() && !options_.allow_audio)
    throw Error(source, ": has ", text.audios.size(), " recordings, but the model has no audio tower");
  return text;
}

void Dataset::add_line(std::size_t line_idx) {
  const std::string source = file_.source(line_idx);
  const SampleText text = read_line(line_idx);
  std::vector<std::int64_t> image_tokens, audio_tokens;
  for (const MediaSource& image : text.images) image_tokens.push_back(probe(image, source));
  for (const MediaSource& audio : text.audios) audio_tokens.push_back(probe(audio, source));
  const ExpandedText expanded = expand_placeholders(text, image_tokens, audio_tokens);
  const auto tokens = tokenize_sample(*tokenizer_, expanded, options_.max_seq_length);
  if (!tokens) {
    ++report_.num_too_long;
    return;
  }
  if (tokens->num_labels == 0) throw Error(source, ": no token carries loss, so there is nothing to learn");
  report_.num_cut += tokens->was_cut;
  report_.num_tokens += tokens->input_ids.size();
  report_.num_labels += tokens->num_labels;
  entries_.push_back({line_idx, tokens->input_ids.size(), !text.images.empty(), !text.audios.empty()});
}

std::string Dataset::resolve(const MediaSource& source, std::string_view name) const {
  return resolve_media_path(options_.media_root, source.path, name);
}

std::int64_t Dataset::probe(const MediaSource& source, std::string_view name) {
  const bool from_file = source.bytes.empty();
  if (from_file) {
    const io::RegularFile file(resolve(source, name));
    media_hash_.update(std::to_string(file.size_bytes()) + "\n");
    io::update_with_samples(media_hash_, file, 0, file.size_bytes());
  }
  if (source.kind == MediaKind::kImage) {
    const auto size =
        from_file ? probe_image_file(resolve(source, name)) : probe_image_size(as_bytes(source.bytes), name);
    const ImageSettings& image = options_.media.image;
    return gemma4::image_soft_tokens(size.height, size.width, image.patch_size, image.max_soft_tokens, image.pooling);
  }
  const std::int64_t most = options_.media.audio.max_samples;
  const std::int64_t samples =
      from_file ? probe_audio_file(resolve(source, name), most, name) : probe_audio_bytes(source.bytes, most, name);
  const std::int64_t tokens = gemma4::audio_soft_tokens(samples);
  if (tokens == 0)
    throw Error(name, ": a recording of ", samples, " samples at 16 kHz is too short for one soft token");
  return tokens;
}

void Dataset::load_media(const SampleText& text, std::string_view name, Sample& sample) const {
  const ImageSettings& image_settings = options_.media.image;
  const AudioSettings& audio_settings = options_.media.audio;
  for (const MediaSource& image : text.images)
    sample.images.push_back(image.bytes.empty() ? load_image(resolve(image, name), image_settings)
                                                : load_image(as_bytes(image.bytes), name, image_settings));
  for (const MediaSource& audio : text.audios)
    sample.recordings.push_back(audio.bytes.empty() ? load_audio(resolve(audio, name), audio_settings)
                                                    : load_audio(as_bytes(audio.bytes), name, audio_settings));
}

Sample Dataset::load(std::size_t idx) const {
  const std::string source = this->source(idx);
  try {
    const SampleText text = load_text(idx);
    Sample sample;
    sample.line = line(idx);
    load_media(text, source, sample);
    std::vector<std::int64_t> image_tokens, audio_tokens;
    for (const ImagePatches& image : sample.images) image_tokens.push_back(image.num_soft_tokens);
    for (const AudioFrames& audio : sample.recordings) audio_tokens.push_back(audio.soft_rows.size(0));
    const ExpandedText expanded = expand_placeholders(text, image_tokens, audio_tokens);
    auto tokens = tokenize_sample(*tokenizer_, expanded, options_.max_seq_length);
    if (!tokens) throw Error(source, ": longer than max_seq_length once its media are decoded");
    sample.input_ids = std::move(tokens->input_ids);
    sample.labels = std::move(tokens->labels);
    sample.token_types = std::move(tokens->token_types);
    return sample;
  } catch (const Error& error) {
    throw located(error, source);
  }
}

}  // namespace bezel::data
