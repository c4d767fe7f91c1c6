#include "bezel/train/random_state.h"

#include <cstring>
#include <mutex>

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include "bezel/io/sha256.h"

namespace bezel::train {
namespace {

using io::JsonView;

std::string state_of(torch::Device device) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  const torch::Tensor state = generator.get_state().contiguous();  // uint8 [bytes], on the CPU
  return io::to_hex({static_cast<const char*>(state.data_ptr()), state.nbytes()});
}

void restore(torch::Device device, const JsonView& saved) {
  const std::string bytes = io::from_hex(saved.text(), saved.source());
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  if (bytes.size() != generator.get_state().nbytes())
    saved.fail(std::to_string(generator.get_state().nbytes()) + " bytes, as this LibTorch has them");
  torch::Tensor state = at::empty({static_cast<std::int64_t>(bytes.size())}, torch::kUInt8);
  std::memcpy(state.data_ptr(), bytes.data(), bytes.size());
  generator.set_state(state);
}

}  // namespace

io::Json random_states(torch::Device device) {
  io::Json json = {{"cpu", state_of(torch::kCPU)}};
  if (!device.is_cpu()) json["device"] = state_of(device);
  return json;
}

void restore_random_states(const JsonView& json, torch::Device device) {
  restore(torch::kCPU, json.at("cpu"));
  if (device.is_cpu()) return;
  if (const auto saved = json.find("device")) restore(device, *saved);
}

}  // namespace bezel::train
