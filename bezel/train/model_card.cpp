#include "bezel/train/model_card.h"

#include <filesystem>
#include <sstream>

#include "bezel/io/json.h"

namespace bezel::train {
namespace {

std::string quoted(const std::string& text) {
  return io::Json(text).dump(-1, ' ', false, io::Json::error_handler_t::replace);
}

void add_header(std::ostream& out, const TrainConfig& config) {
  // A YAML double-quoted text and a JSON one are the same for what paths hold.
  out << "---\nbase_model: " << quoted(config.base_model) << "\nlibrary_name: peft\npipeline_tag: image-text-to-text\n"
      << "tags: [lora, gemma4, bezel]\n---\n\n";
}

void add_towers(std::ostream& out, const lora::Selection& selection) {
  out << "| tower | layers | trainable parameters |\n|---|---|---|\n";
  for (const lora::TowerCount& count : selection.counts())
    out << "| " << lora::tower_name(count.tower) << " | " << count.layers << " | " << count.parameters << " |\n";
}

void add_losses(std::ostream& out, const TrainSummary& summary, std::optional<double> eval_loss) {
  out << "Steps: " << summary.steps << ". Loss: " << summary.first_loss << " in the first step, " << summary.last_loss
      << " in the last, " << summary.mean_loss << " on average.";
  if (eval_loss) out << " Held-out loss at the end: " << *eval_loss << '.';
  out << "\n\n";
}

}  // namespace

std::string model_card(const TrainConfig& config, const TrainSummary& summary, const lora::Selection& selection,
                       std::optional<double> eval_loss) {
  std::ostringstream out;
  add_header(out, config);
  out << "# LoRA adapter for " << std::filesystem::path(config.base_model).filename().string() << "\n\n"
      << "Trained with Bezel on `" << std::filesystem::path(config.train_file).filename().string() << "`.\n\n";
  add_losses(out, summary, eval_loss);
  add_towers(out, selection);
  out << "\n## Use\n\n```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForImageTextToText\n\n"
      << "base = AutoModelForImageTextToText.from_pretrained(" << quoted(config.base_model)
      << ")\nmodel = PeftModel.from_pretrained(base, " << quoted(config.output_dir) << ")\n```\n\n"
      << "## Settings\n\n```yaml\n"
      << to_yaml(config) << "```\n";
  return out.str();
}

}  // namespace bezel::train
