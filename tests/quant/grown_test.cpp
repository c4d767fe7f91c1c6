#include "bezel/quant/grown.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/quant/integer.h"

namespace bezel::quant {
namespace {

using torch::Tensor;

// The same table, made as a whole.
Tensor naive(const Tensor& base, std::int64_t num_rows) {
  const Tensor mean = base.to(torch::kDouble).mean(0, /*keepdim=*/true).to(base.scalar_type());
  return at::cat({base, mean.expand({num_rows - base.size(0), -1})});
}

TEST(GrownWeight, ComputesAsATableWithMeansAppended) {
  at::manual_seed(1);
  for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
    const Tensor base = at::randn({11, 8}).to(dtype), whole = naive(base, 14).to(torch::kFloat);
    const auto grown = grown_weight(dense_weight(base, "t"), 14);
    EXPECT_EQ(grown->shape(), (std::vector<std::int64_t>{14, 8}));
    EXPECT_EQ(grown->storage(), dense_weight(base, "t")->storage());
    const Tensor x = at::randn({5, 8}), dy = at::randn({5, 14}), ids = at::tensor({13L, 0L, 10L, 11L, 4L});
    EXPECT_TRUE(at::allclose(grown->matmul(x), x.mm(whole.t()), 1e-5, 1e-5));
    EXPECT_TRUE(at::allclose(grown->matmul_transposed(dy), dy.mm(whole), 1e-5, 1e-5));
    EXPECT_TRUE(at::equal(grown->rows(ids, torch::kFloat), whole.index_select(0, ids)));
    EXPECT_TRUE(at::equal(grown->dequantize(torch::kFloat), whole));
  }
}

TEST(GrownWeight, RowsOfTheBaseAreReadAsTheyAre) {
  const Tensor base = at::randn({6, 4});
  const auto grown = grown_weight(dense_weight(base, "t"), 7);
  const Tensor ids = at::tensor({5L, 5L, 1L});
  EXPECT_TRUE(at::equal(grown->rows(ids, torch::kFloat), base.index_select(0, ids)));
}

TEST(GrownWeight, TakesTheMeanOfWhatAQuantizedTableStandsFor) {
  at::manual_seed(2);
  const auto base = integer_weight(quantize_int8(at::randn({64, 32})), "t");
  const auto grown = grown_weight(base, 66);
  const Tensor mean = base->dequantize(torch::kFloat).mean(0);
  EXPECT_TRUE(at::allclose(grown->rows(at::tensor({65L}), torch::kFloat)[0], mean, 1e-5, 1e-6));
}

TEST(GrownWeight, DoesNotShrink) { EXPECT_ANY_THROW(grown_weight(dense_weight(at::randn({6, 4}), "t"), 6)); }

}  // namespace
}  // namespace bezel::quant
