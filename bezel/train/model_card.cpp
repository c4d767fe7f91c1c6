#include "bezel/train/model_card.h"

#include <filesystem>
#include <sstream>

#include "bezel/io/json.h"
#include "bezel/train/data_files.h"
#include "bezel/train/preference_keys.h"

namespace bezel::train {
namespace {

std::string quoted(const std::string& text) {
  return io::Json(text).dump(-1, ' ', false, io::Json::error_handler_t::replace);
}

bool is_text_only(const lora::AdapterBase& base) { return base.architecture.ends_with("ForCausalLM"); }

void add_header(std::ostream& out, const lora::AdapterBase& base) {
  // A YAML double-quoted text and a JSON one are the same for what paths hold.
  out << "---\nbase_model: " << quoted(base.path)
      << "\nlibrary_name: peft\npipeline_tag: " << (is_text_only(base) ? "text-generation" : "image-text-to-text")
      << "\ntags: [lora, " << (base.architecture.starts_with("Gemma3") ? "gemma3" : "gemma4") << ", bezel]\n---\n\n";
}

// transformers takes a GGUF file as a folder and a name.
std::string base_arguments(const std::filesystem::path& path) {
  if (path.extension() != ".gguf") return quoted(path.string());
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  return quoted(folder.string()) + ", gguf_file=" + quoted(path.filename().string());
}

void add_use(std::ostream& out, const lora::AdapterBase& base, const std::string& folder) {
  const char* loader = is_text_only(base) ? "AutoModelForCausalLM" : "AutoModelForImageTextToText";
  out << "\n## Use\n\n```python\nfrom peft import PeftModel\nfrom transformers import " << loader
      << "\n\nbase = " << loader << ".from_pretrained(" << base_arguments(base.path)
      << ")\nmodel = PeftModel.from_pretrained(base, " << quoted(folder) << ")\n```\n\n";
}

void add_towers(std::ostream& out, const lora::Selection& selection) {
  out << "| tower | layers | trainable parameters |\n|---|---|---|\n";
  for (const lora::TowerCount& count : selection.counts())
    out << "| " << lora::tower_name(count.tower) << " | " << count.layers << " | " << count.parameters << " |\n";
}

void add_image_attention(std::ostream& out, const std::string& rule) {
  out << "\nPictures were read with `image_attention: " << rule << "`: "
      << (rule == "all_layers" ? "their tokens see one another in every layer, as transformers computes it. vLLM and "
                                 "llama.cpp compute them as `sliding_layers`."
                               : "their tokens see one another in sliding layers alone, as vLLM, llama.cpp and "
                                 "Google's code compute it. transformers computes them as `all_layers`.")
      << "\n";
}

void add_losses(std::ostream& out, const TrainSummary& summary, std::optional<double> eval_loss) {
  out << "Steps: " << summary.steps << ". Loss: " << summary.first_loss << " in the first step, " << summary.last_loss
      << " in the last, " << summary.mean_loss << " on average.";
  if (eval_loss) out << " Held-out loss at the end: " << *eval_loss << '.';
  out << "\n\n";
}

// Which step's adapter this is, where it may not be the last one's.
void add_choice(std::ostream& out, const TrainConfig& config, const TrainSummary& summary) {
  const std::string_view metric = metric_name(config.metric_for_best_model);
  if (summary.stopped_early)
    out << "Stopped early, after " << *config.early_stopping_patience << " evaluations in a row without a better "
        << metric << ".\n\n";
  if (summary.best_loaded)
    out << "The adapter is that of step " << summary.best_loaded->step << ", whose " << metric << ", "
        << summary.best_loaded->value << ", is the best of the run.\n\n";
}

}  // namespace

std::string model_card(const TrainConfig& config, const lora::AdapterBase& base, const TrainSummary& summary,
                       const lora::Selection& selection, std::optional<double> eval_loss) {
  std::ostringstream out;
  add_header(out, base);
  out << "# LoRA adapter for " << std::filesystem::path(base.path).filename().string() << "\n\n"
      << "Trained with Bezel on `" << train_data_names(config) << "`"
      << (config.preference.uses_preferences() ? ", by preference (" + objective_name(config.preference.objective) + ")"
                                               : "")
      << ".\n\n";
  add_losses(out, summary, eval_loss);
  add_choice(out, config, summary);
  add_towers(out, selection);
  if (!base.image_attention.empty()) add_image_attention(out, base.image_attention);
  add_use(out, base, config.output_dir);
  out << "## Settings\n\n```yaml\n" << to_yaml(config) << "```\n";
  return out.str();
}

}  // namespace bezel::train
