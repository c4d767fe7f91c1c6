// next_token MODEL TEXT: the token that a Gemma 4 checkpoint puts behind a text.
#include <iostream>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/data/tokenizer.h"
#include "bezel/error.h"
#include "bezel/gemma4/load.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "next_token MODEL TEXT\n";
    return 2;
  }
  try {
    const std::string folder = argv[1];
    const auto tokenizer = bezel::data::Tokenizer::from_file(folder + "/tokenizer.json");
    bezel::gemma4::Model model = bezel::gemma4::load_model(folder, {.dtype = torch::kFloat}).model;

    bezel::input::RawInputs inputs;
    const auto ids = tokenizer.encode(argv[2], /*add_special_tokens=*/true).ids;
    inputs.input_ids = at::tensor(ids, at::kLong).unsqueeze(0);  // [1, T]

    const at::NoGradGuard no_grad;
    const at::Tensor hidden = model->hidden_states(model->make_batch(inputs));      // [1, T, H]
    const at::Tensor logits = model->logits(hidden.select(1, hidden.size(1) - 1));  // [1, V]
    const auto best = logits.argmax(-1).item<std::int64_t>();
    std::cout << best << ' ' << tokenizer.decode(std::vector<std::int64_t>{best}) << '\n';
  } catch (const bezel::Error& error) {
    std::cerr << error.what() << '\n';
    return static_cast<int>(error.kind());
  }
}
