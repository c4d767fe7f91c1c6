// Writes a report.html of an invented long run with every section, for tests/parity/report_page.py and the screenshot
// in docs/. `sample_report OUT.html [running]`
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <limits>

#include "bezel/io/atomic_write.h"
#include "bezel/report/html.h"

namespace {

using namespace bezel::report;

// A fixed stream of numbers in 0..1, the same everywhere.
double next_random() {
  static std::uint32_t state = 7;
  state = state * 1664525u + 1013904223u;
  return static_cast<double>(state >> 8) / (1 << 24);
}

void add_steps(RunHistory& history, std::int64_t count) {
  for (std::int64_t step = 1; step <= count; ++step) {
    const double part = static_cast<double>(step) / 1200;
    const double warm = std::min(1.0, static_cast<double>(step) / 60);
    StepRow row;
    row.step = step;
    row.epoch = 2 * part;
    row.loss = 0.82 + 1.55 * std::exp(-5 * part) + 0.22 * (next_random() - 0.5);
    if (step == 333) row.loss = std::numeric_limits<double>::quiet_NaN();
    row.learning_rate = 2e-4 * warm * 0.5 * (1 + std::cos(3.14159 * part));
    row.grad_norm = 0.6 + 1.4 * std::exp(-4 * part) + 0.5 * next_random() * next_random();
    row.tokens_per_s = 208 + 22 * next_random();
    row.memory_bytes = 3.1e9 + 4e8 * std::min(1.0, 3 * part);
    history.steps.push_back(row);
    if (step % 100 == 0) history.evals.push_back({step, 0.94 + 1.35 * std::exp(-5 * part) + 0.02 * next_random()});
  }
}

ClipTable clips(std::int64_t step, double growth) {
  ClipTable table{step, {}};
  const auto add = [&](const char* tower, std::int64_t layer, const char* projection, double most) {
    ClipRow row{tower, layer, projection, {}};
    for (double& share : row.shares) {
      const double draw = next_random();
      share = draw < 0.45 ? 0.0 : std::min(0.9, growth * most * std::pow(10.0, -4.5 * next_random()));
    }
    table.rows.push_back(row);
  };
  for (std::int64_t layer = 0; layer < 16; ++layer)
    for (const char* projection : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                   "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
      add("vision", layer, projection, layer > 11 ? 0.3 : 0.02);
  for (std::int64_t layer = 0; layer < 12; ++layer)
    for (const char* projection : {"feed_forward1.ffw_layer_1", "feed_forward1.ffw_layer_2", "self_attn.q_proj",
                                   "self_attn.k_proj", "self_attn.v_proj", "self_attn.post", "lconv1d.linear_start",
                                   "lconv1d.linear_end", "feed_forward2.ffw_layer_1", "feed_forward2.ffw_layer_2"})
      add("audio", layer, projection, layer < 3 ? 0.4 : 0.01);
  return table;
}

RunHistory sample(bool running) {
  RunHistory history;
  history.state = running ? RunState::kRunning : RunState::kDone;
  history.model = "gemma-4-E2B-it";
  history.output_dir = "adapters/menus-and-voice-notes";
  history.started = "25 November 2026, 09:40";
  history.seconds = 5712;
  history.seconds_left = 8800;
  history.total_steps = 1200;
  history.skipped_steps = 1;
  history.num_samples = 4800;
  history.num_eval_samples = 240;
  add_steps(history, running ? 460 : 1200);
  history.towers = {{"language", 245, 25362432}, {"vision", 112, 3538944}, {"audio", 120, 4915200}};
  history.clips.push_back(clips(0, 1.0));
  if (!running) history.clips.push_back(clips(1200, 1.4));
  history.predictions = {
      {"valid.jsonl:3", "<bos><|turn>user\n<|image|>What does the soup cost?<turn|>\n<|turn>model\n",
       "Six euros fifty.", "The image shows a menu. I cannot make out the price of the soup.", "Six euros fifty."},
      {"valid.jsonl:9", "<bos><|turn>user\n<|audio|>Write down the voice note.<turn|>\n<|turn>model\n",
       "Pick up bread & milk <today>.", "Pick up red and milk today.", "Pick up bread & milk <today>."}};
  if (running)
    for (Prediction& item : history.predictions) item.after.clear();
  history.notes = {
      "gradient_checkpointing: on, since a micro-batch of 2048 tokens may keep 3121 MiB for its backward "
      "pass, and 4800 MiB are free; gradient_checkpointing: false keeps it off"};
  history.settings = {{"base_model", "gemma-4-E2B-it", false},
                      {"train_file", "menus/train.jsonl", false},
                      {"lora_towers", "[language, vision, audio]", false},
                      {"storage", "nf4", false},
                      {"learning_rate", "0.0002", true},
                      {"lora_r", "16", true},
                      {"a_name_without_any_blank_to_break_at_" + std::string(60, 'x'), std::string(300, 'y'), true}};
  history.environment = {{"bezel", "0.1.0"}, {"LibTorch", "2.13.0"}, {"processor", "8 cores, AVX512"}};
  return history;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  try {
    bezel::io::write_file_atomically(argv[1], render_html(sample(argc > 2)));
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
