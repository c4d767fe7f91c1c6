#pragma once

#include <algorithm>
#include <barrier>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <ATen/ATen.h>

#include "bezel/train/process_group.h"

namespace bezel::test {

/// Ranks that are threads of one process.
class ThreadGroups {
 public:
  explicit ThreadGroups(std::int64_t size)
      : size_(size), barrier_(size), texts_(static_cast<std::size_t>(size)), buffers_(static_cast<std::size_t>(size)) {}

  /// Calls body(group) on a thread for each rank, until all have returned.
  void run(const std::function<void(train::ProcessGroup&)>& body) {
    std::vector<std::thread> threads;
    for (std::int64_t rank = 0; rank < size_; ++rank)
      threads.emplace_back([this, rank, &body] {
        One group(*this, rank);
        body(group);
      });
    for (std::thread& thread : threads) thread.join();
  }

 private:
  class One : public train::ProcessGroup {
   public:
    One(ThreadGroups& all, std::int64_t rank) : all_(all), rank_(rank) {}
    std::int64_t rank() const override { return rank_; }
    std::int64_t size() const override { return all_.size_; }
    std::string host(std::int64_t rank) const override { return "host" + std::to_string(rank); }
    void sum(float* values, std::size_t count) override {
      all_.buffers_[static_cast<std::size_t>(rank_)].assign(values, values + count);
      barrier();
      for (std::size_t i = 0; i < count; ++i) {
        double sum = 0.0;
        for (const auto& buffer : all_.buffers_) sum += buffer.at(i);
        values[i] = static_cast<float>(sum);
      }
      barrier();
    }
    // As one rank would: rounded once more, the error to the rank that a value belongs to.
    void sum_bfloat16(std::uint16_t* values, std::size_t count, float* error) override {
      std::vector<float> wide(count);
      const auto widen = [](std::uint16_t bits) {
        return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
      };
      std::transform(values, values + count, wide.begin(), widen);
      sum(wide.data(), count);
      for (std::size_t i = 0; i < count; ++i) {
        const torch::Tensor rounded = torch::tensor(wide[i]).to(torch::kBFloat16);
        values[i] = *static_cast<std::uint16_t*>(rounded.data_ptr());
        const float left = wide[i] - rounded.item<float>();
        if (static_cast<std::int64_t>(i) % all_.size_ == rank_ && std::isfinite(left)) error[i] += left;
      }
    }
    std::vector<std::string> gather(const std::string& text) override {
      all_.texts_[static_cast<std::size_t>(rank_)] = text;
      barrier();
      std::vector<std::string> texts = all_.texts_;
      barrier();
      return texts;
    }
    void barrier() override { all_.barrier_.arrive_and_wait(); }
    double waited_s() const override { return 0.0; }

   private:
    ThreadGroups& all_;
    std::int64_t rank_;
  };

  std::int64_t size_;
  std::barrier<> barrier_;
  std::vector<std::string> texts_;
  std::vector<std::vector<float>> buffers_;
};

}  // namespace bezel::test
