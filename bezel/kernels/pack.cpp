#include "bezel/kernels/pack.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "bezel/kernels/host_loops.h"
#include "bezel/kernels/pack_blocks.h"

namespace bezel::kernels {

torch::Tensor pack(const torch::Tensor& x, io::GgufType type) {
  const io::GgufTypeInfo& info = io::gguf_type_info(type);
  TORCH_CHECK(io::is_packed(type) && may_loop(x) && x.is_contiguous() && x.dim() == 2 &&
                  x.scalar_type() == torch::kFloat && x.size(1) % info.block_elements == 0,
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
