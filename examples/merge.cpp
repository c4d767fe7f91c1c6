// merge MODEL ADAPTER OUTPUT: base + adapter as a checkpoint of its own.
#include "bezel/lora/merge.h"

#include <cstdio>

#include "bezel/error.h"
#include "bezel/gemma4/load.h"
#include "bezel/lora/adapter_io.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "merge MODEL ADAPTER OUTPUT\n");
    return 2;
  }
  try {
    bezel::gemma4::Model model = bezel::gemma4::load_model(argv[1], {.dtype = torch::kFloat}).model;
    bezel::lora::load_adapter(*model, argv[2], model->config().text_only);
    const auto checkpoint = bezel::io::Checkpoint::open(argv[1]);
    const auto report = bezel::lora::merge_checkpoint(*model, checkpoint, argv[3], {});
    std::printf("%lld matrices merged\n", static_cast<long long>(report.merged));
  } catch (const bezel::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.kind());
  }
}
