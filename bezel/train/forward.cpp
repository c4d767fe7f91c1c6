#include "bezel/train/forward.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "bezel/error.h"
#include "bezel/lora/tables.h"
#include "bezel/lora/targets.h"
#include "bezel/nn/narrow_factors.h"
#include "bezel/nn/random_keys.h"
#include "bezel/train/loss.h"

namespace bezel::train {

using torch::Tensor;

namespace {

// Raw ids come from outside: no id may exceed the embeddings.
void check_ids(const Tensor& input_ids, const gemma4::ModelConfig& config) {
  const Tensor ids = input_ids.to(torch::kCPU, torch::kLong).contiguous();
  const auto* const begin = ids.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    if (begin[i] < 0) throw Error("input 'input_ids': got the id ", begin[i], ", expected none below 0");
    if (const std::string why = config.missing_row(begin[i]); !why.empty())
      throw Error("input 'input_ids': the token ", begin[i], " at position ", i % ids.size(-1), " of row ",
                  i / ids.size(-1), " has no embedding: ", why);
  }
}

// The rows of one kind of media; undefined without such media.
Tensor rows_of(input::MediaKind kind, const gemma4::Encoded& encoded, const input::Batch& batch) {
  std::vector<Tensor> rows;
  std::int64_t begin = 0;
  for (const input::Media& media : batch.media) {
    if (media.kind == kind) rows.push_back(encoded.rows.narrow(0, begin, media.num_soft_tokens));
    begin += media.num_soft_tokens;
  }
  return rows.empty() ? Tensor() : at::cat(rows);
}

nn::RandomKeys keys_of_labels(const data::Batch& batch) {
  if (!nn::RandomKeys::current().is_set) return {};
  return nn::with_rows(batch.flat_row_keys().gather(0, batch.label_flat_index));
}

}  // namespace

Tensor label_states(gemma4::Model& model, const data::Batch& batch, const gemma4::PhaseObserver& observer) {
  const nn::ScopedNarrowFactors narrow(nn::narrow_factors(*model, model->dtype(), model->device()));
  Tensor states = model->label_states(batch, model->encode(batch, observer));
  if (observer) observer(gemma4::Phase::decoder());
  return states;
}

Tensor loss_sum(gemma4::Model& model, const data::Batch& batch, const gemma4::PhaseObserver& observer,
                double label_smoothing) {
  const Tensor states = label_states(model, batch, observer);
  const nn::ScopedRandomKeys random(keys_of_labels(batch));
  Tensor loss = cross_entropy_sum(states, *model->output_embedding(), batch.label_ids,
                                  model->config().text.final_logit_softcapping, model->trained_head->table().get(),
                                  model->is_training(), label_smoothing);
  if (observer) observer(gemma4::Phase::head());
  return loss;
}

Tensor mean_loss(gemma4::Model& model, const data::Batch& batch) {
  return loss_sum(model, batch) / static_cast<double>(batch.num_labels());
}

std::map<std::string, Tensor> forward_tensors(gemma4::Model& model, const data::Batch& on_host, bool with_grads) {
  check_ids(on_host.input_ids, model->config());
  const data::Batch batch = on_host.to(model->device());
  std::map<std::string, Tensor> out;
  {
    const at::NoGradGuard no_grad;
    const gemma4::Encoded encoded = model->encode(batch);
    for (const input::MediaKind kind : input::kMediaKinds)
      if (const Tensor rows = rows_of(kind, encoded, batch); rows.defined())
        out[std::string(input::kMediaWords[kind].part) + "_features"] = rows;
    const Tensor hidden = model->hidden_states(batch, encoded);
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
  lora::Selection adapted{.targets = lora::adaptable_layers(*model), .text_only = model->config().text_only};
  std::erase_if(adapted.targets, [](const lora::Target& target) { return !target.adapter(); });
  adapted.tables = lora::attached_tables(*model);
  adapted.norms = lora::attached_norms(*model);
  for (const auto& [name, tensor] : adapted.named_tensors())
    if (tensor.grad().defined()) out["grad." + name] = tensor.grad();
  return out;
}

}  // namespace bezel::train
