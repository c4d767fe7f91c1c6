#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <torch/types.h>

namespace bezel::gemma4 {

/// Soft tokens that a tower without adapters gave, kept in a folder, so that an image or audio clip that comes again
/// (in the next epoch, in the next run) costs no tower. An entry is a safetensors file named by the SHA-256 of
/// everything it depends on, and holds a hash of its own bytes: a damaged one is made again. Several processes may use
/// one folder.
class SoftTokenCache {
 public:
  struct Options {
    std::string folder;       ///< made when the first entry is written
    std::string fingerprint;  ///< of all that soft tokens depend on beside the tower's input: weights, dtype, machine
    std::int64_t limit_bytes = 0;
  };

  /// Looks through the folder; entries of processes that were killed while writing are removed.
  explicit SoftTokenCache(Options options);

  /// What `make` gives for the input of an encoder, by the name of its part: the kept copy where there is one. `input`
  /// is all that the encoder sees.
  torch::Tensor get(std::string_view encoder, const std::vector<torch::Tensor>& input,
                    const std::function<torch::Tensor()>& make);

  std::int64_t hits() const { return hits_; }
  std::int64_t misses() const { return misses_; }
  /// Of the entries in the folder, as far as this process knows.
  std::int64_t bytes() const { return bytes_; }

 private:
  struct Entry {
    std::string key;
    std::int64_t bytes = 0;
  };

  std::filesystem::path path_of(const std::string& key) const;
  void find_entries();
  torch::Tensor read(const std::string& key);
  void write(const std::string& key, const torch::Tensor& soft);
  void remember(const std::string& key, std::int64_t bytes);
  void forget(const std::string& key);

  Options options_;
  std::list<Entry> entries_;  // the one used longest ago first
  std::unordered_map<std::string, std::list<Entry>::iterator> places_;
  std::int64_t bytes_ = 0;
  std::int64_t hits_ = 0;
  std::int64_t misses_ = 0;
};

}  // namespace bezel::gemma4
