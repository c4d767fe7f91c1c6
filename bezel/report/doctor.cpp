#include "bezel/report/doctor.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <stdlib.h>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/io/atomic_write.h"
#include "bezel/io/tensor_io.h"
#include "bezel/nn/weight_site.h"
#include "bezel/train/forward.h"

namespace bezel::report {
namespace {

using torch::Tensor;
using Tensors = std::map<std::string, Tensor>;
namespace fs = std::filesystem;

// What float32 leaves between two orders of summation on this model; model_parity.py has the measurements.
constexpr double kLossLimit = 2e-5;
constexpr double kLogitLimit = 3e-3;
constexpr double kGradientLimit = 1e-2;  // relative
constexpr double kFeatureLimit = 1e-4;   // relative
// bfloat16 keeps eight bits: some hundredths in logits of size 10.
constexpr double kBfloatLossLimit = 0.1;
constexpr double kProductLimit = 1e-5;  // relative

constexpr const char* kAdapterKey = "adapter.";

// The bundled model in a folder of its own.
class Bundle {
 public:
  Bundle() {
    std::string pattern = (fs::temp_directory_path() / "bezel-doctor-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw Error(ErrorKind::kIo, pattern, ": cannot be made");
    path_ = pattern;
    for (const char* name : {"config.json", "model.safetensors", "reference.safetensors"})
      io::write_file_atomically(file(name), doctor_file(name));
  }
  Bundle(const Bundle&) = delete;
  Bundle& operator=(const Bundle&) = delete;
  ~Bundle() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  std::string file(const char* name) const { return (fs::path(path_) / name).string(); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Adapters of the reference, "adapter.<module>.a" and ".b", on the model.
void attach(gemma4::Model& model, const Tensors& reference, torch::Device device) {
  std::map<std::string, nn::LinearImpl*> layers;
  for (const nn::WeightSite& site : nn::linear_sites(*model)) layers[site.module] = site.layer;
  for (const auto& [key, tensor] : reference) {
    if (!key.starts_with(kAdapterKey) || !key.ends_with(".a")) continue;
    const std::string name =
        key.substr(std::string(kAdapterKey).size(), key.size() - std::string(kAdapterKey).size() - 2);
    const auto own = [&](const Tensor& value) { return value.to(device, torch::kFloat, false, true).requires_grad_(); };
    nn::Adapter adapter{.a = own(tensor), .b = own(reference.at(kAdapterKey + name + ".b"))};
    layers.at(name)->adapter = std::move(adapter);
  }
}

Tensors run(const Bundle& bundle, const Tensors& reference, torch::ScalarType dtype, torch::Device device) {
  gemma4::Model model = gemma4::load_model(bundle.path(), {dtype, device}).model;
  attach(model, reference, device);
  model->eval();
  Tensors results = train::forward_tensors(
      model, model->make_batch(input::read_raw_inputs(bundle.file("reference.safetensors"))), true);
  for (auto& [name, tensor] : results) tensor = tensor.to(torch::kCPU, torch::kFloat);
  return results;
}

double largest_difference(const Tensor& got, const Tensor& wanted) {
  const double difference = (got - wanted).abs().max().item<double>();
  return std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference;
}

double relative_difference(const Tensor& got, const Tensor& wanted) {
  const double difference = (got - wanted).norm().item<double>() / std::max(1e-30, wanted.norm().item<double>());
  return std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference;
}

// Compares everything that both sides have. The reference keeps the logits of the last rows only.
void compare(const std::string& name, const Tensors& got, const Tensors& wanted,
             const std::function<void(const DoctorCheck&)>& on_check) {
  on_check({name + ": loss", largest_difference(got.at("loss"), wanted.at("loss")), kLossLimit});
  const Tensor logits = wanted.at("logits");
  const Tensor last = got.at("logits").narrow(1, got.at("logits").size(1) - logits.size(1), logits.size(1));
  on_check({name + ": logits", largest_difference(last, logits), kLogitLimit});
  double features = 0.0, gradients = 0.0;
  for (const auto& [key, tensor] : wanted) {
    if (key.ends_with("_features") && !key.starts_with("in."))
      features = std::max(features, relative_difference(got.at(key), tensor));
    if (key.starts_with("grad.")) gradients = std::max(gradients, relative_difference(got.at(key), tensor));
  }
  on_check({name + ": soft tokens of images and audio, relative", features, kFeatureLimit});
  on_check({name + ": LoRA gradients, relative", gradients, kGradientLimit});
}

// The largest relative error of a product with a quantized matrix, over all layers, against float64.
double product_error(const Bundle& bundle, quant::Storage storage, torch::Device device) {
  gemma4::Model model = gemma4::load_model(bundle.path(), {torch::kFloat, device, {.storage = storage}}).model;
  const at::NoGradGuard no_grad;
  double worst = 0.0;
  for (const std::shared_ptr<const quant::Weight>& weight : nn::linear_weights(*model)) {
    const Tensor x = at::linspace(-1, 1, 3 * weight->shape()[1], at::kFloat).sin().view({3, -1});
    const Tensor matrix = weight->dequantize(torch::kFloat).to(torch::kCPU, torch::kDouble);
    const Tensor got = weight->matmul(x.to(device)).to(torch::kCPU, torch::kDouble);
    worst = std::max(worst, relative_difference(got, x.to(torch::kDouble).mm(matrix.t())));
  }
  return worst;
}

}  // namespace

void doctor(torch::Device device, const std::function<void(const DoctorCheck&)>& on_check) {
  const Bundle bundle;
  const Tensors reference = io::load_safetensors(bundle.file("reference.safetensors"));
  const Tensors cpu = run(bundle, reference, torch::kFloat, torch::kCPU);
  compare("cpu float32 against transformers", cpu, reference, on_check);
  const std::string name = device.str();
  if (!device.is_cpu())
    compare(name + " float32 against the cpu", run(bundle, reference, torch::kFloat, device), cpu, on_check);
  const Tensors half = run(bundle, reference, torch::kBFloat16, device);
  on_check({name + " bfloat16 against the cpu in float32: loss", largest_difference(half.at("loss"), cpu.at("loss")),
            kBfloatLossLimit});
  on_check({name + " products in nf4 against float64, relative", product_error(bundle, quant::Storage::kNf4, device),
            kProductLimit});
  on_check({name + " products in int8 against float64, relative", product_error(bundle, quant::Storage::kInt8, device),
            kProductLimit});
}

}  // namespace bezel::report
