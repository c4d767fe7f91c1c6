#include "bezel/train/label_scores.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace bezel::train {

using torch::Tensor;

LabelScores score_labels(const Tensor& hidden, const quant::Weight& head, const Tensor& labels, double softcap) {
  const at::NoGradGuard no_grad;
  constexpr std::int64_t kChunkElements = 16 << 20;  // 64 MiB of float32 logits at a time
  const std::int64_t rows = hidden.size(0);
  const std::int64_t step = std::max<std::int64_t>(1, kChunkElements / head.shape()[0]);
  LabelScores scores{at::empty({rows}, labels.options().dtype(torch::kFloat)),
                     at::empty({rows}, labels.options().dtype(torch::kBool))};
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    const std::int64_t count = std::min(step, rows - begin);
    Tensor logits = head.matmul(hidden.narrow(0, begin, count)).to(torch::kFloat);  // [count, V]
    if (softcap != 0.0) logits.div_(softcap).tanh_().mul_(softcap);
    const Tensor label = labels.narrow(0, begin, count);
    scores.correct.narrow(0, begin, count).copy_(logits.argmax(1) == label);
    scores.nll.narrow(0, begin, count).copy_(-at::log_softmax(logits, 1).gather(1, label.unsqueeze(1)).squeeze(1));
  }
  return scores;
}

}  // namespace bezel::train
