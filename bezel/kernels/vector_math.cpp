#include "bezel/kernels/vector_math.h"

#include <mutex>

#include <ATen/ATen.h>

namespace bezel::kernels {

void prepare_vector_math() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (const auto dtype : {at::kFloat, at::kDouble}) {
      const at::Tensor one = at::ones({1}, dtype);
      for (const auto function : {at::cos, at::sin, at::tanh, at::exp, at::log}) function(one);
    }
  });
}

}  // namespace bezel::kernels
