#include "bezel/train/reference_logps.h"

#include <cmath>
#include <filesystem>
#include <limits>
#include <utility>

#include <ATen/ATen.h>

#include "bezel/error.h"
#include "bezel/io/safetensors.h"
#include "bezel/io/sha256.h"
#include "bezel/io/tensor_io.h"

namespace bezel::train {
namespace {

constexpr const char* kTensor = "logps";

std::string bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

std::string entry(const std::map<std::string, std::string>& metadata, const char* key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? "" : found->second;
}

}  // namespace

ReferenceLogps::ReferenceLogps(std::string path, ReferenceFacts facts, std::size_t num_answers)
    : path_(std::move(path)), facts_(std::move(facts)), logps_(num_answers, std::numeric_limits<float>::quiet_NaN()) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path_, error)) return;
  try {
    const auto metadata = io::SafetensorsFile::open(path_)->metadata();
    const auto tensors = io::load_safetensors(path_);
    const auto found = tensors.find(kTensor);
    const std::string adapter = entry(metadata, "adapter");
    if (found == tensors.end() || entry(metadata, "inputs") != facts_.inputs) return;
    if (facts_.adapter != kLostAdapter && adapter != facts_.adapter) return;
    if (found->second.scalar_type() != torch::kFloat || found->second.numel() != static_cast<std::int64_t>(num_answers))
      return;
    const auto* values = found->second.const_data_ptr<float>();
    std::vector<float> read(values, values + num_answers);
    if (io::sha256(bytes_of(read)) != entry(metadata, "sha256")) return;
    logps_ = std::move(read);
    facts_.adapter = adapter;
    was_read_ = true;
  } catch (const Error&) {
    // A damaged file is made again.
  }
}

bool ReferenceLogps::has(std::int64_t answer) const { return !std::isnan(logps_.at(static_cast<std::size_t>(answer))); }

float ReferenceLogps::at(std::int64_t answer) const {
  const float logp = logps_.at(static_cast<std::size_t>(answer));
  if (std::isnan(logp))
    throw Error(path_, ": has no value for answer ", answer, "; delete the file, and it is made again");
  return logp;
}

void ReferenceLogps::set(std::int64_t answer, float logp) { logps_.at(static_cast<std::size_t>(answer)) = logp; }

void ReferenceLogps::share(ProcessGroup& group) {
  if (group.size() == 1) return;
  // Sums of one value and zeros; rank 0's count first, which also holds those that a file had.
  std::vector<float> owned(logps_.size(), 0.0f);
  for (std::size_t i = 0; i < logps_.size(); ++i) owned[i] = std::isnan(logps_[i]) ? 0.0f : 1.0f;
  std::vector<float> number = owned, values(logps_.size(), 0.0f);
  group.sum(number.data(), number.size());
  for (std::size_t i = 0; i < logps_.size(); ++i)
    if (owned[i] > 0) values[i] = logps_[i];
  group.sum(values.data(), values.size());
  for (std::size_t i = 0; i < logps_.size(); ++i)
    if (number[i] > 0 && owned[i] == 0) logps_[i] = values[i];
}

void ReferenceLogps::save() const {
  if (path_.empty()) return;
  const auto size = static_cast<std::int64_t>(logps_.size());
  const torch::Tensor tensor = at::from_blob(const_cast<float*>(logps_.data()), {size}, torch::kFloat);
  io::save_safetensors(path_, {{kTensor, tensor}},
                       {{"format", "pt"},
                        {"inputs", facts_.inputs},
                        {"adapter", facts_.adapter},
                        {"sha256", io::sha256(bytes_of(logps_))}});
}

}  // namespace bezel::train
