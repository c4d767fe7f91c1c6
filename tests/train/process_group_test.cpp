#include "bezel/train/process_group.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "bezel/io/tensor_io.h"
#include "bezel/train/reduction.h"
#include "bezel/train/residual_file.h"
#include "support/temp_folder.h"
#include "support/thread_group.h"

namespace bezel::train {
namespace {

using test::ThreadGroups;
using torch::Tensor;

TEST(Share, PartsMakeTheWhole) {
  for (const std::int64_t count : {0, 1, 7, 12})
    for (const std::int64_t size : {1, 2, 5}) {
      std::int64_t sum = 0;
      for (std::int64_t rank = 0; rank < size; ++rank) {
        sum += Share{rank, size}.of(count);
        std::int64_t visited = 0;
        for (std::int64_t i = rank; i < count; i += size) ++visited;
        EXPECT_EQ((Share{rank, size}.of(count)), visited);
      }
      EXPECT_EQ(sum, count);
    }
}

// One parameter that all ranks have a gradient for, one that only rank 1 has, and one that nobody has.
TEST(Reduction, GradientsLossesAndMetricsAreThoseOfAll) {
  ThreadGroups(3).run([](ProcessGroup& group) {
    NamedTensors parameters;
    for (const char* name : {"all", "one", "none"})
      parameters.emplace_back(name, torch::zeros({2, 3}).requires_grad_());
    const auto rank = static_cast<double>(group.rank());
    parameters[0].second.mutable_grad() = torch::full({2, 3}, rank + 0.25);
    if (group.rank() == 1) parameters[1].second.mutable_grad() = torch::full({2, 3}, 7.0);
    // Batches 0 … 6, dealt out in turn; a sum in another order has other last bits.
    StepSums sums;
    const auto loss_of = [](std::int64_t i) { return std::pow(0.1, static_cast<double>(i)) / 3; };
    for (std::int64_t i = group.rank(); i < 7; i += 3) sums.losses.push_back(loss_of(i));
    sums.metrics["m"] = {rank, 1.0};
    if (group.rank() == 2) sums.metrics["late"] = {5.0, 2.0};
    double wanted = 0.0;
    for (std::int64_t i = 0; i < 7; ++i) wanted += loss_of(i);
    Residuals none;
    EXPECT_EQ(sum_step(group, parameters, sums, none), wanted);
    EXPECT_TRUE(torch::equal(parameters[0].second.grad(), torch::full({2, 3}, 3.75)));
    EXPECT_TRUE(torch::equal(parameters[1].second.grad(), torch::full({2, 3}, 7.0)));
    EXPECT_FALSE(parameters[2].second.grad().defined());
    EXPECT_EQ(sums.metrics["m"].sum, 3.0);
    EXPECT_EQ(sums.metrics["m"].weight, 3.0);
    EXPECT_EQ(sums.metrics["late"].sum, 5.0);
  });
}

TEST(Reduction, ALossThatIsNoNumberOnOneRankIsNoneOnAll) {
  ThreadGroups(2).run([](ProcessGroup& group) {
    const NamedTensors parameters;
    StepSums sums{.losses = {group.rank() == 1 ? std::numeric_limits<double>::infinity() : 1.0}};
    Residuals none;
    EXPECT_FALSE(std::isfinite(sum_step(group, parameters, sums, none)));
  });
}

NamedTensors two_parameters() {
  return {{"a", torch::zeros({3, 5}).requires_grad_()}, {"b", torch::zeros({7}).requires_grad_()}};
}

// The gradient that a rank has for a parameter in an update; the second parameter has none in some.
Tensor gradient_of(std::int64_t step, std::int64_t rank, std::size_t parameter) {
  const auto seed = static_cast<std::uint64_t>(100 * step + 10 * rank + static_cast<std::int64_t>(parameter));
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn(parameter == 0 ? std::vector<std::int64_t>{3, 5} : std::vector<std::int64_t>{7}, generator);
}

void sum_in_bfloat16(ProcessGroup& group, std::int64_t step, NamedTensors& parameters, Residuals& residuals) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].second.mutable_grad().reset();
    if (i == 0 || step % 2 == 0) parameters[i].second.mutable_grad() = gradient_of(step, group.rank(), i);
  }
  StepSums sums{.losses = {1.0}};
  sum_step(group, parameters, sums, residuals);
}

TEST(Reduction, WhatBfloat16LeavesOutIsSentLater) {
  ThreadGroups(3).run([](ProcessGroup& group) {
    NamedTensors parameters = two_parameters();
    Residuals residuals = make_residuals(parameters);
    Tensor exact = torch::zeros({3, 5}, torch::kDouble), got = exact.clone(), plain = exact.clone();
    for (std::int64_t step = 0; step < 40; ++step) {
      sum_in_bfloat16(group, step, parameters, residuals);
      Tensor sum = torch::zeros({3, 5}, torch::kDouble);
      for (std::int64_t rank = 0; rank < 3; ++rank) sum += gradient_of(step, rank, 0);
      const Tensor grad = parameters[0].second.grad();
      EXPECT_TRUE(torch::equal(grad, grad.to(torch::kBFloat16).to(torch::kFloat)));
      EXPECT_LT((grad - sum).abs().max().item<double>(), 0.05);
      exact += sum;
      got += grad;
      plain += sum.to(torch::kBFloat16);
    }
    // All that is missing is what the ranks still hold; rounding without it drifts away.
    Tensor held = residuals[0].second.clone();
    group.sum(held.data_ptr<float>(), static_cast<std::size_t>(held.numel()));
    EXPECT_LT((exact - got - held).abs().max().item<double>(), 1e-5);
    EXPECT_LT((exact - got).abs().mean().item<double>(), (exact - plain).abs().mean().item<double>());
  });
}

TEST(Reduction, GradientsThatAreNoNumbersLeaveNoTraceInResiduals) {
  ThreadGroups(2).run([](ProcessGroup& group) {
    NamedTensors parameters = two_parameters();
    Residuals residuals = make_residuals(parameters);
    parameters[0].second.mutable_grad() = torch::full({3, 5}, std::numeric_limits<float>::infinity());
    parameters[1].second.mutable_grad() = torch::full({7}, std::numeric_limits<float>::max());
    StepSums sums{.losses = {1.0}};
    sum_step(group, parameters, sums, residuals);
    EXPECT_FALSE(parameters[0].second.grad().isfinite().any().item<bool>());
    for (const auto& [name, tensor] : residuals) EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
  });
}

TEST(Reduction, ResidualsGoThroughACheckpoint) {
  const test::TempFolder folder;
  ThreadGroups(3).run([&](ProcessGroup& group) {
    NamedTensors parameters = two_parameters();
    Residuals residuals = make_residuals(parameters), restored = make_residuals(parameters);
    for (std::int64_t step = 0; step < 3; ++step) sum_in_bfloat16(group, step, parameters, residuals);
    const NamedTensors all = gather_residuals(group, residuals);
    EXPECT_EQ(all.size(), group.is_first() ? 6u : 0u);
    if (group.is_first()) io::save_safetensors(folder / kResidualFile, all);
    group.barrier();
    restore_residuals(folder.path().string(), group, restored);
    for (std::size_t i = 0; i < residuals.size(); ++i) {
      EXPECT_GT(residuals[i].second.abs().max().item<float>(), 0.0f);
      EXPECT_TRUE(torch::equal(restored[i].second, residuals[i].second));
    }
  });
  // Two ranks hold together what three held.
  const auto saved = io::load_safetensors(folder / kResidualFile);
  ThreadGroups(2).run([&](ProcessGroup& group) {
    Residuals restored = make_residuals(two_parameters());
    restore_residuals(folder.path().string(), group, restored);
    Tensor sum = torch::zeros({7});
    for (const char* rank : {"0.b", "1.b", "2.b"}) sum += saved.at(rank);
    EXPECT_TRUE(torch::equal(restored[1].second, group.is_first() ? sum : torch::zeros({7})));
  });
}

TEST(Reduction, EvaluationBatchesComeInTheirOrder) {
  ThreadGroups(3).run([](ProcessGroup& group) {
    std::vector<EvalBatch> mine;
    for (std::int64_t i = group.rank(); i < 8; i += 3)
      mine.push_back({i, {.loss = static_cast<double>(i) / 7, .correct = i}, {{"m", {1.0, 2.0}}}});
    const std::vector<EvalBatch> all = gather_batches(group, mine);
    ASSERT_EQ(all.size(), 8u);
    for (std::int64_t i = 0; i < 8; ++i) {
      const EvalBatch& batch = all[static_cast<std::size_t>(i)];
      EXPECT_EQ(batch.weight, i);
      EXPECT_EQ(batch.sums.loss, static_cast<double>(i) / 7);
      EXPECT_EQ(batch.sums.correct, i);
      EXPECT_EQ(batch.metrics.at("m").weight, 2.0);
    }
  });
}

TEST(ProcessGroup, AnErrorOfOneRankIsThrownOnAllWithItsName) {
  ThreadGroups(3).run([](ProcessGroup& group) {
    const std::string said = test::error_of([&] {
      together(group, [&]() -> int {
        if (group.rank() == 2) throw Error(ErrorKind::kIo, "disk full");
        return 1;
      });
    });
    EXPECT_EQ(said, "rank 2 on host host2: disk full");
    EXPECT_EQ(together(group, [&] { return 5; }), 5);
    EXPECT_TRUE(any_rank(group, group.rank() == 1));
    EXPECT_FALSE(any_rank(group, false));
  });
}

TEST(ProcessGroup, OtherInputsAreNamed) {
  ThreadGroups(3).run([](ProcessGroup& group) {
    const std::string said = test::error_of([&] {
      check_alike(group, group.rank() == 1 ? "b" : "a", ErrorKind::kData,
                  [](const std::string& first, const std::string& other) { return first + other; });
    });
    EXPECT_EQ(said, "rank 1 on host host1 has other inputs than rank 0 on host host0: ab");
  });
}

}  // namespace
}  // namespace bezel::train
