#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bezel::gemma4 {

/// One dimension of a tensor inside an array, in elements.
struct OrbaxAxis {
  std::int64_t size = 0;
  std::int64_t stride = 0;
};

/// A tensor of the Hugging Face checkpoint as a view of one array of Google's.
struct OrbaxTensor {
  std::string name{};                 ///< canonical, see io/key_map
  std::vector<std::int64_t> shape{};  ///< of the tensor
  std::int64_t first = 0;             ///< element of the array it begins at
  std::vector<OrbaxAxis> axes{};      ///< outermost first; their sizes multiply to the tensor's elements

  /// Whether its elements are in the array in their own order.
  bool contiguous() const;
};

/// An array's name in one spelling: parts joined with ".", also those that a "/" separates, without a leading
/// "params" or "transformer".
std::string normal_orbax_name(const std::vector<std::string>& path);

/// Which tensors of the Hugging Face checkpoint each array of Google's Gemma 4 holds.
/// Reference: transformers' convert_gemma4_weights.py for the transforms, google-deepmind/gemma for the names.
class OrbaxMap {
 public:
  /// `names`: all arrays, as normal_orbax_name spells them. A layer with a router is a mixture of experts.
  explicit OrbaxMap(const std::vector<std::string>& names);

  /// The tensors in the array `name`; nothing for an array that Bezel does not use. Throws Error naming the array when
  /// it has another number of dimensions than its name demands.
  std::optional<std::vector<OrbaxTensor>> tensors_of(const std::string& name,
                                                     const std::vector<std::int64_t>& shape) const;

 private:
  std::vector<std::string> expert_layers_;  ///< prefixes such as "layer_3."
};

}  // namespace bezel::gemma4
