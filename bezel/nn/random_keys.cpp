#include "bezel/nn/random_keys.h"

#include <utility>

#include <ATen/ATen.h>

#include "bezel/kernels/counter_hash.h"
#include "bezel/kernels/random_rows.h"

namespace bezel::nn {
namespace {

using torch::Tensor;

thread_local RandomKeys current_keys;

}  // namespace

RandomKeys RandomKeys::of_step(std::uint64_t seed, std::int64_t update) {
  RandomKeys keys;
  keys.is_set = true;
  keys.step = kernels::combine_keys(seed, static_cast<std::uint64_t>(update));
  return keys;
}

const RandomKeys& RandomKeys::current() { return current_keys; }

std::uint64_t RandomKeys::of_site(std::uint64_t site) const { return kernels::combine_keys(step, site); }

Tensor RandomKeys::of_rows(std::int64_t num_rows, torch::Device device) const {
  TORCH_CHECK(is_set, "dropout and noise need a ScopedRandomKeys around the training step");
  if (rows.defined() && rows.size(0) == num_rows) return rows;
  if (gathered.defined() && gathered.size(0) == num_rows) return gathered;
  TORCH_CHECK(!rows.defined(), "random numbers for ", num_rows, " rows, but keys for ", rows.size(0));
  return at::arange(num_rows, at::TensorOptions(at::kLong).device(device)).add_(static_cast<std::int64_t>(item));
}

ScopedRandomKeys::ScopedRandomKeys(RandomKeys keys) : outer_(std::exchange(current_keys, std::move(keys))) {}

ScopedRandomKeys::~ScopedRandomKeys() { current_keys = std::move(outer_); }

RandomKeys with_rows(Tensor rows, Tensor gathered) {
  RandomKeys keys = current_keys;
  keys.rows = std::move(rows);
  keys.gathered = std::move(gathered);
  keys.item = 0;
  return keys;
}

RandomKeys with_item(std::uint64_t item) {
  RandomKeys keys = with_rows({});
  keys.item = item;
  return keys;
}

std::uint64_t site_key(std::string_view name) { return kernels::name_key(name); }

Tensor dropout_mask(std::uint64_t site, std::int64_t num_rows, std::int64_t columns, double probability,
                    torch::Device device) {
  const RandomKeys& keys = RandomKeys::current();
  return kernels::keep_mask(keys.of_site(site), keys.of_rows(num_rows, device), columns, probability);
}

}  // namespace bezel::nn
