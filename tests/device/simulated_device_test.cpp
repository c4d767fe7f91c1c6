#include "support/simulated_device.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace bezel::simulated {
namespace {

using torch::Tensor;

TEST(SimulatedDevice, ComputesWhatTheCpuComputes) {
  torch::manual_seed(1);
  const Tensor a = torch::randn({5, 7}), b = torch::randn({7, 3});
  const Tensor got = at::softmax(at::mm(a.to(kDevice), b.to(kDevice)) + 1, -1).slice(0, 1, 4).t();
  EXPECT_EQ(got.device(), kDevice);
  EXPECT_TRUE(at::equal(got.cpu(), at::softmax(at::mm(a, b) + 1, -1).slice(0, 1, 4).t()));
}

TEST(SimulatedDevice, DifferentiatesWhatTheCpuDifferentiates) {
  const Tensor x = torch::randn({4, 6});
  const auto gradient = [&](torch::Device device) {
    Tensor leaf = x.to(device).detach().requires_grad_();
    leaf.index_select(0, at::tensor({2, 0, 2}).to(device)).mul(2).tanh().sum().backward();
    return leaf.grad().cpu();
  };
  EXPECT_TRUE(at::equal(gradient(kDevice), gradient(torch::kCPU)));
}

TEST(SimulatedDevice, CountsLaunchesCopiesAndWaits) {
  const Tensor host = torch::ones({4, 8});
  reset_counts();
  const Tensor x = host.to(kDevice);
  EXPECT_EQ(counts().host_to_device, 1);
  EXPECT_EQ(counts().host_to_device_bytes, 4 * 8 * 4);
  const Tensor part = x.narrow(0, 1, 2).t().unsqueeze(0).transpose(1, 2).view({16});  // views alone
  EXPECT_EQ(counts().launches, 0);
  const Tensor sum = (part * 2).sum();
  EXPECT_EQ(counts().launches, 2);
  EXPECT_EQ(counts().synchronizations, 0);
  EXPECT_EQ(sum.item<float>(), 32.0f);
  EXPECT_EQ(counts().synchronizations, 1);
  EXPECT_EQ(x.nonzero().size(0), 32);
  EXPECT_EQ(x.index({x > 0}).size(0), 32);
  EXPECT_EQ(counts().synchronizations, 3);
  EXPECT_EQ(x.cpu().sum().item<float>(), 32.0f);
  EXPECT_EQ(counts().synchronizations, 4);
  EXPECT_EQ(counts().device_to_host_bytes, 4 + 4 * 8 * 4);
}

TEST(SimulatedDevice, RefusesTensorsOfTheCpuAmongItsOwn) {
  const Tensor x = torch::ones({3}).to(kDevice);
  EXPECT_THROW(x + torch::ones({3}), c10::Error);
  EXPECT_EQ((x + at::scalar_tensor(2.0)).sum().item<float>(), 9.0f);
}

TEST(SimulatedDeviceDeathTest, HostAccessEndsTheProcessWithTheTensorsName) {
  const Tensor x = torch::ones({3}).to(kDevice);
  name_tensor(x, "layers.3.q_proj.weight");
  EXPECT_DEATH(static_cast<void>(*static_cast<volatile const float*>(x.const_data_ptr())),
               "host access to memory of the simulated device, in layers.3.q_proj.weight");
  const Tensor sum = x + 1;
  EXPECT_DEATH(static_cast<void>(*static_cast<volatile const float*>(sum.const_data_ptr())), "in aten::add");
}

}  // namespace
}  // namespace bezel::simulated
