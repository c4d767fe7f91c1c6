#pragma once

#include <cstdint>
#include <string_view>

#include <torch/types.h>

namespace bezel::nn {

/// What random numbers of training follow from: seed and update, the sample and the position in it, and the site in the
/// model. Micro-batches, packing, recomputation, threads and processes change none of them.
struct RandomKeys {
  bool is_set = false;     ///< random numbers may be asked for
  std::uint64_t step = 0;  ///< of seed and update
  torch::Tensor rows;      ///< int64 [N], a key for each row that layers read; undefined: `item` + row number
  torch::Tensor gathered;  ///< int64 [Q], of the rows where layers read only some of them; undefined: none
  std::uint64_t item = 0;  ///< an item of media, whose rows are numbered

  /// Of optimizer step `update`, counted from 0.
  static RandomKeys of_step(std::uint64_t seed, std::int64_t update);
  /// Those of this thread's innermost ScopedRandomKeys.
  static const RandomKeys& current();

  /// The key of a site in this step.
  std::uint64_t of_site(std::uint64_t site) const;
  /// Keys of `num_rows` rows, int64 on `device`: `rows` or `gathered`, whichever has so many.
  torch::Tensor of_rows(std::int64_t num_rows, torch::Device device) const;
};

/// Makes `keys` this thread's while it lives.
class ScopedRandomKeys {
 public:
  explicit ScopedRandomKeys(RandomKeys keys);
  ~ScopedRandomKeys();
  ScopedRandomKeys(const ScopedRandomKeys&) = delete;
  ScopedRandomKeys& operator=(const ScopedRandomKeys&) = delete;

 private:
  RandomKeys outer_;
};

/// This thread's keys with the rows of what is read from here on. Does nothing where no keys are set.
RandomKeys with_rows(torch::Tensor rows, torch::Tensor gathered = {});
/// The same with an item of media, whose rows are numbered.
RandomKeys with_item(std::uint64_t item);

/// Key of a place in the model that draws random numbers, from its canonical name.
std::uint64_t site_key(std::string_view name);

/// Dropout mask of a layer's input, bool [num_rows, columns], by this thread's keys.
torch::Tensor dropout_mask(std::uint64_t site, std::int64_t num_rows, std::int64_t columns, double probability,
                           torch::Device device);

}  // namespace bezel::nn
