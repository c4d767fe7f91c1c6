#include "bezel/train/bench.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <fstream>
#include <sstream>
#include <thread>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <unistd.h>

#include "bezel/data/dataset.h"
#include "bezel/data/packing.h"
#include "bezel/data/shared_prefix.h"
#include "bezel/error.h"
#include "bezel/train/objective.h"
#include "bezel/train/prefix_plan.h"
#include "bezel/train/trainer.h"

namespace bezel::train {
namespace {

using Clock = std::chrono::steady_clock;

// Seconds since this process was started, to a hundredth (proc(5): field 22 of stat, in clock ticks since boot).
double process_age_s() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  std::istringstream fields(line.substr(line.rfind(')') + 1));  // the name before it may hold spaces
  std::string skipped;
  for (int i = 3; i < 22; ++i) fields >> skipped;
  double ticks = 0.0;
  fields >> ticks;
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9 -
         ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

std::int64_t anonymous_bytes() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("RssAnon:", 0) == 0) return std::stoll(line.substr(8)) * 1024;
  return 0;
}

// Watches the anonymous memory of the process from a thread of its own.
class MemoryWatch {
 public:
  MemoryWatch()
      : thread_([this] {
          while (!stop_) {
            peak_ = std::max(peak_.load(), anonymous_bytes());
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
          }
        }) {}
  ~MemoryWatch() {
    stop_ = true;
    thread_.join();
  }
  std::int64_t peak() const { return peak_; }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<std::int64_t> peak_ = 0;
  std::thread thread_;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::vector<std::int64_t> numbers_of(const at::Tensor& row) {
  const at::Tensor numbers = row.to(torch::kLong).contiguous();
  return {numbers.data_ptr<std::int64_t>(), numbers.data_ptr<std::int64_t>() + numbers.numel()};
}

// The first of `media` that fill `count` placeholders, which are taken away from it.
std::vector<data::Media> take_media(std::span<const data::Media>& media, std::int64_t count, std::int64_t row) {
  std::vector<data::Media> taken;
  for (; count > 0 && !media.empty(); media = media.subspan(1)) {
    taken.push_back(media.front());
    count -= media.front().num_soft_tokens;
  }
  if (count != 0) throw Error("row ", row, " of the inputs: its placeholders are not those of whole media");
  return taken;
}

}  // namespace

data::RawInputs synthetic_inputs(const gemma4::ModelConfig& config, std::int64_t tokens, std::int64_t label_tokens,
                                 std::uint64_t seed) {
  data::RawInputs raw;
  at::Generator generator = at::detail::createCPUGenerator(seed);
  // Below the media placeholders, which Gemma keeps at the end of the vocabulary.
  const std::int64_t end = std::max<std::int64_t>(config.text.vocab_size * 9 / 10, 4);
  raw.input_ids = at::randint(3, end, {1, tokens}, generator, at::kLong);
  raw.labels = raw.input_ids.clone();
  raw.labels.narrow(1, 0, tokens - label_tokens).fill_(data::kIgnoreLabel);
  return raw;
}

std::vector<data::Sample> row_samples(const data::RawInputs& raw, const data::Batch& whole) {
  if (!raw.labels.defined()) throw Error("packing needs 'in.labels'");
  std::vector<data::Sample> samples;
  std::span<const data::Media> media = whole.media;
  for (std::int64_t row = 0; row < raw.input_ids.size(0); ++row) {
    const at::Tensor is_real = whole.attention_mask[row];
    data::Sample& sample = samples.emplace_back();
    sample.line = static_cast<std::size_t>(row);
    sample.input_ids = numbers_of(raw.input_ids[row].masked_select(is_real));
    sample.labels = numbers_of(raw.labels[row].masked_select(is_real));
    sample.token_types = numbers_of(whole.mm_token_type_ids[row].masked_select(is_real));
    const auto text = std::ranges::count(sample.token_types, 0);
    sample.media = take_media(media, static_cast<std::int64_t>(sample.token_types.size()) - text, row);
  }
  return samples;
}

std::vector<data::Batch> packed_batches(std::vector<data::Sample> samples, std::int64_t row_tokens, bool shares) {
  const auto most = static_cast<std::size_t>(row_tokens);
  std::vector<std::size_t> places, lengths;
  for (const data::Sample& sample : samples) {
    places.push_back(places.size());
    lengths.push_back(sample.input_ids.size());
  }
  std::vector<std::vector<std::size_t>> parts;
  if (shares) {
    data::join_equal_media(samples);
    parts = divide_step(loaded_samples(samples), {.tokens = most, .soft_tokens = most, .strangers = SIZE_MAX})
                .micro_batches;
  } else {
    const data::SampleRows rows = data::pack_rows(places, lengths, most);
    for (std::size_t row = 0; row < rows.size(); ++row) {
      const auto packed = rows.rows(row, row + 1);
      parts.emplace_back(packed.begin(), packed.end());
    }
  }
  std::vector<data::Batch> batches;
  for (const std::vector<std::size_t>& part : parts) {
    std::vector<data::Sample> together;
    for (const std::size_t place : part) together.push_back(samples[place]);
    batches.push_back(shares ? data::collate_shared(together) : data::collate_packed(together));
  }
  return batches;
}

BenchResult bench_training(gemma4::Model& model, const lora::Selection& selection, std::span<const data::Batch> batches,
                           std::int64_t steps, EvictionOptions eviction) {
  const Residency residency(model, eviction);
  TrainerOptions options;
  options.total_steps = steps;
  options.max_grad_norm = 0.0;
  options.learning_rate = [](std::int64_t) { return 1e-4; };
  SupervisedObjective objective(model, model->device(), residency.observer());
  Trainer trainer(*model, selection, objective, options);
  model->train();
  BenchResult result;
  {
    const MemoryWatch watch;
    result.start_s = process_age_s();
    for (std::int64_t step = 0; step < steps; ++step) {
      const auto begin = Clock::now();
      result.losses.push_back(trainer.step(step, batches).loss);
      result.step_s.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
    result.peak_anonymous_bytes = watch.peak();
  }
  const auto after_first = result.step_s.begin() + (steps > 1 ? 1 : 0);
  std::int64_t num_tokens = 0;
  for (const data::Batch& batch : batches) num_tokens += batch.num_tokens;
  result.tokens_per_s = static_cast<double>(num_tokens) / median({after_first, result.step_s.end()});
  result.peak_bytes = peak_memory_bytes();
  return result;
}

}  // namespace bezel::train
