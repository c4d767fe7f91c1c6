#include "bezel/kernels/pack.h"

#include <algorithm>
#include <iterator>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/pack_blocks.h"

namespace bezel::kernels {

bool can_pack(io::GgufType type) {
  using enum io::GgufType;
  constexpr io::GgufType kKnown[] = {kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ4_K, kQ5_K, kQ6_K};
  return std::ranges::find(kKnown, type) != std::end(kKnown);
}

torch::Tensor pack(const torch::Tensor& x, io::GgufType type) {
  const io::GgufTypeInfo& info = io::gguf_type_info(type);
  TORCH_CHECK(can_pack(type) && may_loop(x) && x.is_contiguous() && x.dim() == 2 && x.scalar_type() == torch::kFloat &&
                  x.size(1) % info.block_elements == 0,
              x.scalar_type(), " ", x.sizes(), " cannot be packed as ", info.name);
  torch::Tensor out =
      at::empty({x.size(0), x.size(1) / info.block_elements * info.block_bytes}, x.options().dtype(torch::kByte));
  const float* from = x.const_data_ptr<float>();
  std::uint8_t* to = out.data_ptr<std::uint8_t>();
  const PackBlock packer = block_packer(type);
  constexpr std::int64_t kGrain = 64;  // blocks: far more work each than a thread costs
  at::parallel_for(0, x.numel() / info.block_elements, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block)
      packer(from + block * info.block_elements, to + block * info.block_bytes);
  });
  return out;
}

}  // namespace bezel::kernels
