#include "bezel/kernels/describe_products.h"

#include "bezel/kernels/matmul.h"
#include "bezel/kernels/simd/dispatch.h"
#include "bezel/kernels/simd/tile_units.h"

namespace bezel::kernels {

std::string describe_products() {
  if (simd::tile_products() != nullptr) return "tile units";
  const bool in_float32 = needs_fp32_gemm(torch::kBFloat16, torch::kCPU);
  std::string kind =
      simd::has_tile_units() ? "tile units, by LibTorch" : (in_float32 ? "float32" : "bfloat16 dot products");
  const std::string why = simd::why_no_tile_products();
  return why.empty() ? kind : kind + " (tile units are not used: " + why + ")";
}

}  // namespace bezel::kernels
