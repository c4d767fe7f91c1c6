#include "bezel/train/residual_file.h"

#include <cstring>
#include <filesystem>

#include <ATen/ATen.h>

#include "bezel/train/state_file.h"

namespace bezel::train {
namespace {

using torch::Tensor;

std::string key_of(std::int64_t rank, const std::string& name) { return std::to_string(rank) + "." + name; }

std::string bytes_of(const Residuals& residuals) {
  std::string bytes;
  for (const auto& [name, tensor] : residuals)
    bytes.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  return bytes;
}

void add_from_bytes(NamedTensors& all, std::int64_t rank, const std::string& bytes, const Residuals& like) {
  std::size_t begin = 0;
  for (const auto& [name, tensor] : like) {
    Tensor copy = at::empty_like(tensor);
    TORCH_CHECK(begin + copy.nbytes() <= bytes.size(), "rank ", rank, " sent ", bytes.size(), " bytes of residuals");
    std::memcpy(copy.data_ptr(), bytes.data() + begin, copy.nbytes());
    begin += copy.nbytes();
    all.emplace_back(key_of(rank, name), std::move(copy));
  }
}

std::int64_t count_ranks(const StateFile& file, const Residuals& residuals) {
  std::int64_t ranks = 0;
  while (file.has(key_of(ranks, residuals.front().first))) ++ranks;
  return ranks;
}

}  // namespace

// Rank by rank, so that nobody but rank 0 holds those of more than two.
NamedTensors gather_residuals(ProcessGroup& group, const Residuals& residuals) {
  NamedTensors all;
  if (residuals.empty()) return all;
  for (std::int64_t rank = 0; rank < group.size(); ++rank) {
    const auto texts = group.gather(rank == group.rank() ? bytes_of(residuals) : std::string());
    if (group.is_first()) add_from_bytes(all, rank, texts[static_cast<std::size_t>(rank)], residuals);
  }
  return all;
}

void restore_residuals(const std::string& folder, ProcessGroup& group, Residuals& residuals) {
  const std::string path = (std::filesystem::path(folder) / kResidualFile).string();
  if (residuals.empty() || !std::filesystem::exists(path)) return;
  StateFile file(path);
  const std::int64_t ranks = count_ranks(file, residuals);
  for (auto& [name, tensor] : residuals) {
    if (ranks == group.size()) {
      tensor = file.take_like(key_of(group.rank(), name), tensor);
    } else if (group.is_first()) {
      for (std::int64_t rank = 0; rank < ranks; ++rank) tensor.add_(file.take_like(key_of(rank, name), tensor));
    }
  }
}

}  // namespace bezel::train
