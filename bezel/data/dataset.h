#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bezel/data/batch.h"
#include "bezel/data/dataset_report.h"
#include "bezel/data/media.h"
#include "bezel/data/preference.h"
#include "bezel/data/prefix_hashes.h"
#include "bezel/data/processor_config.h"
#include "bezel/data/sample_files.h"
#include "bezel/data/sample_text.h"
#include "bezel/data/sample_tokens.h"
#include "bezel/data/tokenizer.h"
#include "bezel/error.h"
#include "bezel/io/sha256.h"

namespace bezel::data {

using input::AnswerRole;

/// One line of the data set, or an answer of it, ready to be put into a batch.
struct Sample {
  std::vector<std::int64_t> input_ids;
  std::vector<std::int64_t> labels;       ///< kIgnoreLabel where no loss falls; not shifted
  std::vector<std::int64_t> token_types;  ///< MediaWords::token_type on placeholders, else 0
  std::vector<Media> media;               ///< in the order of their placeholders; of a video each frame
  std::size_t line = 0;                   ///< in the file, from 1; 0: of none
  AnswerRole role = AnswerRole::kOnly;
  std::vector<std::int64_t> answer_labels{};  ///< where `labels` hold the prompt's too: those of the answer alone
  std::uint64_t key = 0;                      ///< of its random numbers, see input/sample_key.h
};

/// Tokens and labels of `text`, whose media are given decoded, in the order of their placeholders; nothing when it is
/// longer than `max_tokens` (0: no bound) and cannot be cut. With `wider_spans` of the text `labels` are theirs, and
/// answer_labels those of its loss_spans.
std::optional<Sample> make_sample(const Tokenizer& tokenizer, const SampleText& text, std::vector<LoadedMedia> media,
                                  std::size_t max_tokens, std::span<const ExpandedText::Span> wider_spans = {});

/// A sample to be answered.
struct PromptSample {
  Sample sample;       ///< the prompt, without labels
  std::string prompt;  ///< its text, one placeholder for each item of media
  std::string answer;  ///< what should be said, as answer_text() gives it
};

struct MediaCount {
  std::size_t items = 0;
  std::size_t soft_tokens = 0;
};

/// Size of a sample, or of both answers of a pair; with audio `tokens` and soft tokens are at most one too large.
struct SampleSize {
  std::size_t tokens = 0;
  std::size_t label_tokens = 0;
  input::PerKind<MediaCount> media{};

  bool has_media() const {
    return std::ranges::any_of(media.values, [](const MediaCount& count) { return count.items > 0; });
  }
};

struct DatasetOptions {
  std::string file;
  std::string media_root;             ///< empty: the folder of `file`
  std::vector<SampleFile> files;      ///< in place of `file` and `media_root`: several, or one with its own names
  std::size_t max_seq_length = 2048;  ///< 0: no bound
  LineKind kind = LineKind::kSample;  ///< what a line holds
  bool learns_prompt = false;         ///< of a pair: loss on the chosen answer's prompt, too
  bool skip_bad_samples = false;      ///< leave bad lines out instead of stopping at the first
  bool hashes_prefixes = false;       ///< know by prefix() which samples begin alike
  input::PerKind<bool> allowed{{true, true, true}};  ///< kinds that the model has an encoder for
  SampleOptions sample;
  MediaSettings media;
  MediaTokenIds ids;  ///< must be those of the tokenizer
  /// Why the model has no embedding for a token id, or "": see gemma4::ModelConfig::missing_row.
  std::function<std::string(std::int64_t id)> missing_row{};
  /// Called now and then while the file is read, with lines done and all lines.
  std::function<void(std::size_t done, std::size_t total)> on_progress{};
};

/// Files of samples, checked once from end to end and then read sample by sample. Media are decoded when a sample is
/// loaded and not kept. load() may be called from several threads.
class Dataset {
 public:
  /// Reads lines side by side on LibTorch's threads. Throws Error "file:line: ..." at the first bad line (with
  /// skip_bad_samples it is counted instead), and when no sample is left. Of media only the headers are read.
  Dataset(DatasetOptions options, std::shared_ptr<const Tokenizer> tokenizer);

  std::size_t size() const { return entries_.size(); }
  const DatasetReport& report() const { return report_; }
  /// Sentences about what is left out or teaches nothing although no line is bad.
  std::vector<std::string> left_out_notes() const;
  const DatasetOptions& options() const { return options_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  /// Its files, for errors.
  std::string name() const;
  const SampleFiles& files() const { return file_; }
  /// Which of its files sample `idx` is in.
  std::size_t file_idx(std::size_t idx) const { return file_.file_idx(entries_[idx].line_idx); }
  const SampleSize& sample_size(std::size_t idx) const { return entries_[idx].size; }
  /// Length of sample `idx`; for one with an audio clip an upper bound that may be one token too large.
  std::size_t num_tokens(std::size_t idx) const { return entries_[idx].size.tokens; }
  /// What sample `idx` begins with, of a pair the chosen answer; empty without hashes_prefixes.
  const PrefixHashes& prefix(std::size_t idx) const { return entries_[idx].prefix; }
  /// How many tokens the two answers of a pair begin alike by, or a few less.
  std::size_t pair_prefix(std::size_t idx) const { return entries_[idx].pair_prefix; }
  bool has_media(std::size_t idx, MediaKind kind) const { return entries_[idx].size.media[kind].items > 0; }
  std::size_t line(std::size_t idx) const { return file_.line_number(entries_[idx].line_idx); }
  /// "file:line" of sample `idx`.
  std::string source(std::size_t idx) const { return file_.source(entries_[idx].line_idx); }

  /// Stands for all samples: the bytes of the file, and of the media files that it names the sizes and 4 KiB each at
  /// begin, middle and end.
  const std::string& fingerprint() const { return fingerprint_; }

  /// Reads sample `idx`, of a pair the chosen answer, and decodes its media; `whole` leaves its end on. Throws Error
  /// "file:line: ...", also when the file has changed.
  Sample load(std::size_t idx, bool whole = false) const;
  /// The rows of sample `idx`: itself, or of a pair the chosen answer and the rejected one.
  std::vector<Sample> load_rows(std::size_t idx, bool whole = false) const;
  /// Text and labels of sample `idx`, each item of media one placeholder, which is neither decoded nor probed, and of
  /// any length.
  Sample load_tokens(std::size_t idx) const;
  AnswerRole role(std::size_t idx) const { return entries_[idx].role; }
  /// Sample `idx` as a prompt for its last answer, whatever its length. Nothing where it has no prompt (plain text).
  std::optional<PromptSample> load_prompt(std::size_t idx) const;
  /// Items of media that were decoded until now, by load() and load_prompt().
  std::size_t num_decoded() const { return num_decoded_; }
  /// The text of sample `idx` before tokenization.
  SampleText load_text(std::size_t idx) const;
  /// The media of sample `idx`, in the order of their placeholders.
  std::vector<MediaInfo> media(std::size_t idx) const;

 private:
  struct Entry {
    std::size_t line_idx = 0;
    SampleSize size;
    AnswerRole role = AnswerRole::kOnly;
    std::size_t part = 0;  ///< which of the line's answers, where each is a sample
    PrefixHashes prefix{};
    std::size_t pair_prefix = 0;
  };
  /// What is known of an answer once it is tokenized.
  struct Measured {
    bool too_long = false;
    bool was_cut = false;
    SampleSize size{};
    PrefixHashes prefix{};
    std::size_t pair_prefix = 0;
  };
  /// What reading a line once gives.
  struct ScannedLine {
    std::optional<Error> error{};
    std::vector<Measured> samples{};
    std::vector<AnswerRole> roles{};
    SampleNotes notes{};
    std::vector<MediaInfo> media{};
  };

  void check_tokenizer() const;
  void read_lines();
  ScannedLine scan_line(std::size_t line_idx) const;
  void check_rows(std::span<const std::int64_t> ids) const;
  void add_line(std::size_t line_idx, const ScannedLine& line);
  std::vector<AnswerText> read_line(std::size_t line_idx) const;
  std::vector<AnswerText> answers_of(std::size_t idx) const;
  static Measured joined(const Measured& chosen, const Measured& rejected);
  Measured measure(const AnswerText& answer, std::span<const MediaInfo> media) const;
  std::vector<MediaInfo> probe(const SampleText& text, std::size_t line_idx) const;
  const std::string& media_root(std::size_t line_idx) const;
  std::vector<LoadedMedia> decode(const SampleText& text, std::size_t line_idx) const;
  Sample make_row(const AnswerText& answer, std::vector<LoadedMedia> media, std::size_t line_idx, bool whole) const;

  DatasetOptions options_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  SampleFiles file_;
  std::vector<Entry> entries_;
  DatasetReport report_;
  mutable std::atomic<std::size_t> num_decoded_ = 0;
  io::Sha256 media_hash_;
  std::string fingerprint_;
};

/// Puts samples into one batch, padded on the right with `pad_id`. Throws Error when a sample's placeholders and soft
/// tokens do not match in number.
Batch collate(std::span<const Sample> samples, std::int64_t pad_id);

/// Puts samples side by side into one row without padding, each apart from the others (Batch::segment_start).
Batch collate_packed(std::span<const Sample> samples);

/// The order in which epoch number `epoch` visits `size` samples: the same for the same arguments on every machine.
std::vector<std::size_t> epoch_order(std::size_t size, std::uint64_t seed, std::uint64_t epoch);

}  // namespace bezel::data
