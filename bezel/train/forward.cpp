#include "bezel/train/forward.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/error.h"
#include "bezel/io/key_map.h"
#include "bezel/train/loss.h"

namespace bezel::train {

using torch::Tensor;

Tensor label_states(gemma4::Model& model, const data::Batch& batch, const gemma4::PhaseObserver& observer) {
  const auto ended = [&](gemma4::Phase phase) {
    if (observer) observer(phase);
  };
  const Tensor images = model->image_features(batch);
  if (images.defined()) ended(gemma4::Phase::kVision);
  const Tensor recordings = model->audio_features(batch);
  if (recordings.defined()) ended(gemma4::Phase::kAudio);
  Tensor states = model->label_states(batch, images, recordings);
  ended(gemma4::Phase::kDecoder);
  return states;
}

Tensor loss_sum(gemma4::Model& model, const data::Batch& batch, const gemma4::PhaseObserver& observer) {
  Tensor loss = cross_entropy_sum(label_states(model, batch, observer), *model->head(), batch.label_ids,
                                  model->config().text.final_logit_softcapping);
  if (observer) observer(gemma4::Phase::kHead);
  return loss;
}

Tensor mean_loss(gemma4::Model& model, const data::Batch& batch) {
  return loss_sum(model, batch) / static_cast<double>(batch.num_labels());
}

std::map<std::string, Tensor> forward_tensors(gemma4::Model& model, const data::Batch& on_host, bool with_grads) {
  const data::Batch batch = on_host.to(model->head()->device());
  std::map<std::string, Tensor> out;
  {
    const at::NoGradGuard no_grad;
    const Tensor images = model->image_features(batch);
    const Tensor recordings = model->audio_features(batch);
    if (images.defined()) out["image_features"] = images;
    if (recordings.defined()) out["audio_features"] = recordings;
    const Tensor hidden = model->hidden_states(batch, images, recordings);
    out["logits"] = model->logits(hidden.flatten(0, 1)).unflatten(0, hidden.sizes().slice(0, 2));
  }
  if (batch.num_labels() == 0) {
    if (with_grads)
      throw Error("gradients need labels, and every label is masked",
                  batch.num_unpredictable > 0 ? " or would be predicted by padding" : "");
    return out;
  }
  const at::AutoGradMode grad_mode(with_grads);
  const Tensor loss = mean_loss(model, batch);
  out["loss"] = loss.detach();
  if (!with_grads) return out;
  if (!loss.requires_grad()) throw Error("gradients need an adapter that takes part");
  loss.backward();
  for (const auto& item : model->named_modules()) {
    const auto* linear = dynamic_cast<const nn::LinearImpl*>(item.value().get());
    if (linear == nullptr || !linear->adapter) continue;
    const auto save = [&](const char* part, const Tensor& tensor) {
      if (tensor.grad().defined())
        out["grad." + io::adapter_key(item.key(), part, model->config().text_only)] = tensor.grad();
    };
    save("lora_A", linear->adapter->a);
    save("lora_B", linear->adapter->b);
  }
  return out;
}

}  // namespace bezel::train
