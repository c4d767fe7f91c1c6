#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "bezel/train/process_group.h"

namespace bezel::train {

/// What the reference's answers depend on.
struct ReferenceFacts {
  std::string inputs;   ///< a hash of data, base, and settings
  std::string adapter;  ///< a hash of the adapter that is the reference; "" for the base
};

/// Log probabilities of the reference for each answer of a run, which a file keeps. NaN: not computed.
class ReferenceLogps {
 public:
  /// Without a `path` nothing is read or saved. Reads `path` where it is of the same facts and size; anything else
  /// there, or a damaged file, counts as none. An adapter that is lost ("unknown") fits any.
  ReferenceLogps(std::string path, ReferenceFacts facts, std::size_t num_answers);

  /// Whether the file fitted.
  bool was_read() const { return was_read_; }
  bool has(std::int64_t answer) const;
  /// Throws Error when the answer has no value.
  float at(std::int64_t answer) const;
  void set(std::int64_t answer, float logp);
  /// Writes the file, wholly or not at all. Throws Error (kIo).
  void save() const;
  /// Gives every process of `group` the values that any of them has; collective.
  void share(ProcessGroup& group);

 private:
  std::string path_;
  ReferenceFacts facts_;
  std::vector<float> logps_;
  bool was_read_ = false;
};

/// Stands for an adapter that is not there any more.
inline constexpr const char* kLostAdapter = "unknown";

}  // namespace bezel::train
