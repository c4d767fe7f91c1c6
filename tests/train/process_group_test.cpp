#include "bezel/train/process_group.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "bezel/train/reduction.h"
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
    EXPECT_EQ(sum_step(group, parameters, sums), wanted);
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
    EXPECT_FALSE(std::isfinite(sum_step(group, parameters, sums)));
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
