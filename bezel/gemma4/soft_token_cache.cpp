#include "bezel/gemma4/soft_token_cache.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <sstream>
#include <system_error>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/sha256.h"
#include "bezel/io/tensor_io.h"

namespace bezel::gemma4 {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

constexpr const char* kName = "soft_tokens";
constexpr std::string_view kExtension = ".safetensors";
constexpr std::size_t kKeyDigits = 64;
constexpr std::int64_t kHeaderBytes = 1024;  // at most

// Dtype, shape and elements.
void update(io::Sha256& hash, const Tensor& tensor) {
  const Tensor bytes = tensor.cpu().contiguous();
  std::ostringstream header;
  header << tensor.scalar_type() << tensor.sizes() << "\n";
  hash.update(header.str());
  hash.update(bytes.data_ptr(), bytes.nbytes());
}

std::string hash_of(const Tensor& tensor) {
  io::Sha256 hash;
  update(hash, tensor);
  return hash.finish();
}

// The key that a file of the cache is named by, or nothing.
std::optional<std::string> key_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (name.size() != kKeyDigits + kExtension.size() || !name.ends_with(kExtension)) return std::nullopt;
  const std::string key = name.substr(0, kKeyDigits);
  if (key.find_first_not_of("0123456789abcdef") != std::string::npos) return std::nullopt;
  return key;
}

// Half-written files are renamed within seconds, unless their process is gone.
bool is_left_over(const fs::path& path, std::error_code& error) {
  return path.extension() == ".tmp" && key_of(path.stem().stem()) &&
         fs::last_write_time(path, error) < fs::file_time_type::clock::now() - std::chrono::hours(1);
}

}  // namespace

SoftTokenCache::SoftTokenCache(Options options) : options_(std::move(options)) { find_entries(); }

fs::path SoftTokenCache::path_of(const std::string& key) const {
  return fs::path(options_.folder) / (key + std::string(kExtension));
}

void SoftTokenCache::find_entries() {
  struct Found {
    fs::file_time_type used;
    std::string key;
    std::int64_t bytes;
  };
  std::vector<Found> found;
  std::error_code error;
  for (fs::directory_iterator next(options_.folder, error), end; !error && next != end; next.increment(error)) {
    std::error_code gone;  // another process may be removing it
    if (is_left_over(next->path(), gone)) fs::remove(next->path(), gone);
    const auto key = key_of(next->path());
    if (!key || !next->is_regular_file(gone)) continue;
    const fs::file_time_type used = next->last_write_time(gone);
    const auto bytes = static_cast<std::int64_t>(next->file_size(gone));
    if (!gone) found.push_back({used, *key, bytes});
  }
  std::ranges::sort(found, {}, &Found::used);
  for (const Found& entry : found) remember(entry.key, entry.bytes);
}

Tensor SoftTokenCache::get(std::string_view encoder, const std::vector<Tensor>& input,
                           const std::function<Tensor()>& make) {
  io::Sha256 hash;
  hash.update(options_.fingerprint + "\n" + std::string(encoder) + "\n");
  for (const Tensor& tensor : input) update(hash, tensor);
  const std::string key = hash.finish();
  if (Tensor kept = read(key); kept.defined()) {
    ++hits_;
    return kept.to(input[0].device());
  }
  ++misses_;
  Tensor soft = make();
  write(key, soft);
  return soft;
}

Tensor SoftTokenCache::read(const std::string& key) {
  const fs::path path = path_of(key);
  std::error_code error;
  if (!fs::exists(path, error)) return {};
  try {
    const auto file = io::SafetensorsFile::open(path.string());
    const io::TensorInfo* info = file->find(kName);
    const auto hash = file->metadata().find("sha256");
    if (info == nullptr || hash == file->metadata().end()) return {};
    // A copy: another process may evict the entry, or damage befall it, while it is in use.
    Tensor soft = io::map_tensor(file, *info).clone();
    if (hash_of(soft) != hash->second) return {};
    fs::last_write_time(path, fs::file_time_type::clock::now(), error);
    remember(key, static_cast<std::int64_t>(fs::file_size(path, error)));
    return soft;
  } catch (const Error&) {
    return {};  // it is made again, and written over the damaged one
  }
}

void SoftTokenCache::write(const std::string& key, const Tensor& soft) {
  const auto bytes = static_cast<std::int64_t>(soft.nbytes()) + kHeaderBytes;
  if (bytes > options_.limit_bytes) return;
  while (!entries_.empty() && bytes_ + bytes > options_.limit_bytes) {
    std::error_code error;
    fs::remove(path_of(entries_.front().key), error);
    forget(std::string(entries_.front().key));
  }
  try {
    fs::create_directories(options_.folder);
    io::save_safetensors(path_of(key).string(), {{kName, soft}}, {{"format", "pt"}, {"sha256", hash_of(soft)}});
    remember(key, static_cast<std::int64_t>(fs::file_size(path_of(key))));
  } catch (const Error&) {  // a full disk costs time, not the run
  } catch (const fs::filesystem_error&) {
  }
}

void SoftTokenCache::remember(const std::string& key, std::int64_t bytes) {
  forget(key);
  places_[key] = entries_.insert(entries_.end(), {key, bytes});
  bytes_ += bytes;
}

void SoftTokenCache::forget(const std::string& key) {
  const auto place = places_.find(key);
  if (place == places_.end()) return;
  bytes_ -= place->second->bytes;
  entries_.erase(place->second);
  places_.erase(place);
}

}  // namespace bezel::gemma4
