#include "bezel/kernels/gated_conv.h"

#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/kernels/simd/dispatch.h"

namespace bezel::kernels {
namespace {

using torch::Tensor;

// Threads do rows of their own; those that a run of rows begins with cost a kernel's width more.
void run(void (*loop)(const simd::GatedConv&, std::int64_t, std::int64_t, float*), const simd::GatedConv& arguments,
         std::int64_t rows) {
  constexpr std::int64_t kGrainRows = 16;
  at::parallel_for(0, rows, kGrainRows, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scratch(static_cast<std::size_t>((arguments.width + 1) * arguments.columns));
    loop(arguments, begin, end, scratch.data());
  });
}

}  // namespace

bool has_gated_conv(const Tensor& x) { return simd::takes({x}); }

Tensor gated_conv(const Tensor& x, const Tensor& weight) {
  const Tensor wide = weight.to(torch::kFloat).contiguous();
  Tensor y = at::empty({x.size(0), x.size(1) / 2}, x.options());
  run(simd::row_kernels().gated_conv,
      {simd::bf16(x), wide.const_data_ptr<float>(), x.size(0), y.size(1), wide.size(0), nullptr, simd::bf16(y)},
      x.size(0));
  return y;
}

Tensor gated_conv_backward(const Tensor& x, const Tensor& weight, const Tensor& gradient) {
  const Tensor wide = weight.to(torch::kFloat).contiguous(), dy = gradient.contiguous();
  Tensor dx = at::empty_like(x);
  run(simd::row_kernels().gated_conv_backward,
      {simd::bf16(x), wide.const_data_ptr<float>(), x.size(0), dy.size(1), wide.size(0), simd::bf16(dy),
       simd::bf16(dx)},
      x.size(0));
  return dx;
}

Tensor gated_conv_on_device(const Tensor& x, const Tensor& weight) {
  const std::int64_t width = weight.size(0), channels = weight.size(1);
  const Tensor gated = at::glu(x, -1).t().unsqueeze(0);  // [1, H, T]
  const Tensor taps = weight.to(x.scalar_type()).t().unsqueeze(1);
  const Tensor y = at::conv1d(gated, taps, {}, /*stride=*/1, /*padding=*/width - 1, /*dilation=*/1, channels);
  return y.squeeze(0).narrow(1, 0, x.size(0)).t().contiguous();
}

Tensor gated_conv_plain(const Tensor& x, const Tensor& weight) {
  // One product for each tap: few, and unlike ATen's grouped convolution it has a meta form.
  const std::vector<Tensor> halves = x.chunk(2, -1);
  const Tensor gated = halves[0] * at::sigmoid(halves[1]);
  const std::int64_t width = weight.size(0);
  const Tensor padded = at::constant_pad_nd(gated.to(torch::kFloat), {0, 0, width - 1, 0});  // [T + width - 1, H]
  Tensor y;
  for (std::int64_t tap = 0; tap < width; ++tap) {
    const Tensor part = padded.narrow(0, tap, x.size(0)) * weight[tap].to(torch::kFloat);
    y = tap == 0 ? part : y + part;
  }
  return y.to(x.scalar_type());
}

}  // namespace bezel::kernels
