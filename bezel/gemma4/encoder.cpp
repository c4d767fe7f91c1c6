#include "bezel/gemma4/encoder.h"

#include "bezel/gemma4/audio.h"
#include "bezel/gemma4/patch_embedder.h"
#include "bezel/gemma4/vision.h"
#include "bezel/nn/recompute.h"
#include "bezel/nn/weight_site.h"

namespace bezel::gemma4 {

torch::Tensor Encoder::run_layers(torch::Tensor x, const Forward& forward) const {
  for (const auto& layer : *layers()) {
    const auto body = [layer = layer.get(), forward](const std::vector<torch::Tensor>& given) {
      return std::vector<torch::Tensor>{forward(*layer, given[0])};
    };
    x = recompute ? nn::recompute(body, {x}, nn::adapter_tensors(*layer))[0] : body({x})[0];
  }
  return x;
}

std::shared_ptr<Encoder> make_encoder(const ModelConfig& config, input::MediaKind kind) {
  switch (kind) {
    case input::MediaKind::kImage:
      if (!config.vision) return nullptr;
      if (config.is_unified()) return std::make_shared<PatchEmbedderModelImpl>(*config.vision);
      return std::make_shared<VisionModelImpl>(*config.vision);
    case input::MediaKind::kAudio:
      if (!config.audio) return nullptr;
      if (config.is_unified()) return std::make_shared<RawFramesImpl>(*config.audio);
      return std::make_shared<AudioModelImpl>(*config.audio);
    case input::MediaKind::kVideo:
      break;  // images' encoder reads its frames
  }
  return nullptr;
}

}  // namespace bezel::gemma4
