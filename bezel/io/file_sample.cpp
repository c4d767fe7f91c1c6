#include "bezel/io/file_sample.h"

#include <string>

namespace bezel::io {

void update_with_samples(Sha256& hash, const RegularFile& file, std::uint64_t begin, std::uint64_t size_bytes) {
  constexpr std::uint64_t kSampleBytes = 4096;
  std::string sample(3 * kSampleBytes, '\0');
  const auto add = [&](std::uint64_t offset, std::uint64_t wanted) {
    hash.update(sample.data(), file.read(sample.data(), static_cast<std::size_t>(wanted), begin + offset));
  };
  if (size_bytes <= sample.size()) return add(0, size_bytes);
  for (const std::uint64_t offset : {std::uint64_t{0}, (size_bytes - kSampleBytes) / 2, size_bytes - kSampleBytes})
    add(offset, kSampleBytes);
}

}  // namespace bezel::io
