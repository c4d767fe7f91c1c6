#include "bezel/quant/shared_codes.h"

#include <map>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace bezel::quant {
namespace {

using torch::Tensor;

/// What two processes see of memory that they share; their calls may come one process after the other.
class TwoProcesses {
 public:
  class One : public SharedMemory {
   public:
    One(TwoProcesses& both, int process) : both_(both), process_(process) {}
    Tensor next(torch::IntArrayRef sizes, torch::ScalarType dtype) override {
      const auto [place, fresh] = both_.tensors_.try_emplace(asked_++);
      if (fresh) place->second = at::zeros(sizes, dtype);
      EXPECT_EQ(place->second.sizes(), sizes);
      EXPECT_EQ(place->second.scalar_type(), dtype);
      return place->second;
    }
    bool next_is_mine() override { return turn_++ % 2 == process_; }
    void wait() override {}

   private:
    TwoProcesses& both_;
    int process_, asked_ = 0, turn_ = 0;
  };
  One first{*this, 0}, second{*this, 1};

 private:
  std::map<int, Tensor> tensors_;
};

// Of several shapes: with a last block that is not whole, and a stack.
std::vector<Tensor> matrices(torch::ScalarType dtype) {
  torch::manual_seed(7);
  return {torch::randn({5, 7}).to(dtype), torch::randn({300, 96}).to(dtype), torch::randn({3, 16, 64}).to(dtype)};
}

TEST(SharedCodes, FourBitCodesAreThoseThatEachWouldMake) {
  for (const bool double_quant : {false, true})
    for (const auto dtype : {torch::kFloat, torch::kBFloat16}) {
      TwoProcesses both;
      std::vector<std::function<FourBit()>> first, second;
      for (const Tensor& matrix : matrices(dtype))
        first.push_back(share_4bit(both.first, matrix, FourBitType::kNf4, double_quant));
      for (const Tensor& matrix : matrices(dtype))
        second.push_back(share_4bit(both.second, matrix, FourBitType::kNf4, double_quant));
      for (std::size_t i = 0; i < first.size(); ++i) {
        const Tensor wanted = dequantize(quantize_4bit(matrices(dtype)[i], FourBitType::kNf4, double_quant));
        const FourBit a = first[i](), b = second[i]();
        EXPECT_EQ(a.packed.data_ptr(), b.packed.data_ptr());
        EXPECT_TRUE(torch::equal(dequantize(a), wanted));
        EXPECT_TRUE(torch::equal(dequantize(b), wanted));
        EXPECT_NE(four_bit_weight(b, "b"), nullptr);
      }
    }
}

TEST(SharedCodes, Int8CodesAreThoseThatEachWouldMake) {
  TwoProcesses both;
  std::vector<std::function<IntegerMatrix()>> first, second;
  for (const Tensor& matrix : matrices(torch::kBFloat16)) first.push_back(share_int8(both.first, matrix));
  for (const Tensor& matrix : matrices(torch::kBFloat16)) second.push_back(share_int8(both.second, matrix));
  for (std::size_t i = 0; i < first.size(); ++i) {
    const Tensor wanted = dequantize(quantize_int8(matrices(torch::kBFloat16)[i]));
    EXPECT_TRUE(torch::equal(dequantize(first[i]()), wanted));
    EXPECT_TRUE(torch::equal(dequantize(second[i]()), wanted));
    EXPECT_NE(integer_weight(second[i](), "b"), nullptr);
  }
}

}  // namespace
}  // namespace bezel::quant
