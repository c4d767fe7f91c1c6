#include "bezel/generate/settings.h"

#include <algorithm>
#include <filesystem>

#include "bezel/data/chat_template.h"
#include "bezel/data/checkpoint_template.h"
#include "bezel/io/gguf_model.h"
#include "bezel/io/json.h"
#include "bezel/io/regular_file.h"

namespace bezel::generate {
namespace {

using io::Json;
using io::JsonView;

std::string path_in(const std::string& folder, const char* name) {
  return (std::filesystem::path(folder) / name).string();
}

std::vector<std::int64_t> read_ids(const JsonView& value) {
  if (!value.is_array()) return {value.whole()};
  std::vector<std::int64_t> ids;
  for (const JsonView& id : value.elements()) ids.push_back(id.whole());
  return ids;
}

// eos_token_id at the top, or of the text model.
std::vector<std::int64_t> config_eos(const std::string& folder) {
  const std::string path = path_in(folder, "config.json");
  const Json json = io::read_json_file(path);
  const JsonView config(json, path);
  if (const auto ids = config.find("eos_token_id")) return read_ids(*ids);
  if (const auto text = config.find("text_config"))
    if (const auto ids = text->find("eos_token_id")) return read_ids(*ids);
  return {};
}

// Keys that would change which tokens come, with the value at which they do nothing.
void note_unknown(const JsonView& config, Settings& settings) {
  static const std::vector<std::pair<const char*, Json>> kNeutral{{"num_beams", 1},
                                                                  {"repetition_penalty", 1.0},
                                                                  {"no_repeat_ngram_size", 0},
                                                                  {"min_p", 0.0},
                                                                  {"typical_p", 1.0},
                                                                  {"epsilon_cutoff", 0.0},
                                                                  {"eta_cutoff", 0.0},
                                                                  {"penalty_alpha", 0.0},
                                                                  {"min_new_tokens", 0},
                                                                  {"min_length", 0},
                                                                  {"bad_words_ids", Json()},
                                                                  {"forced_bos_token_id", {}},
                                                                  {"forced_eos_token_id", {}},
                                                                  {"sequence_bias", {}},
                                                                  {"stop_strings", {}}};
  for (const auto& [key, neutral] : kNeutral) {
    const auto value = config.find(key);
    if (value && value->value() != neutral)
      settings.notes.push_back(config.source() + " asks for " + key + " " + value->value().dump() +
                               ", which Bezel does not do");
  }
}

void read_sampling(const JsonView& config, Settings& settings) {
  SamplingOptions& sampling = settings.sampling;
  const auto sample = config.find("do_sample");
  sampling.greedy = !(sample && sample->boolean());
  if (const auto value = config.find("temperature")) sampling.temperature = value->number();
  if (const auto value = config.find("top_k")) sampling.top_k = value->whole();
  if (const auto value = config.find("top_p")) sampling.top_p = value->number();
  if (!sampling.greedy && !(sampling.temperature > 0.0)) config.at("temperature").fail("a number above 0");
  if (!(sampling.top_p > 0.0 && sampling.top_p <= 1.0)) config.at("top_p").fail("a number above 0 and not above 1");
  if (const auto ids = config.find("suppress_tokens")) sampling.suppress_tokens = read_ids(*ids);
  if (const auto value = config.find("max_new_tokens")) settings.max_new_tokens = value->whole(1);
}

// What a GGUF file names as ends of a text and of a turn.
std::vector<std::int64_t> gguf_eos(const std::string& path) {
  std::vector<std::int64_t> ids;
  const auto file = io::GgufFile::open(path);
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"})
    if (const io::GgufValue* value = file->get(key))
      if (const std::int64_t id = value->whole(); std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
  return ids;
}

// The token that ends a turn in the chat template that renders, where it is one.
void add_template_end(const std::string& model, const std::string& file, const data::Tokenizer& tokenizer,
                      Settings& settings) {
  const auto chat_template = data::CheckpointTemplate::load(model, file);
  if (chat_template == nullptr || !chat_template->is_usable()) return;
  const auto end = tokenizer.token_id(chat_template->marks(chat_template->special_tokens(), false).end);
  if (end && std::ranges::find(settings.stop_ids, *end) == settings.stop_ids.end()) settings.stop_ids.push_back(*end);
}

}  // namespace

Settings read_settings(const std::string& model, const data::Tokenizer& tokenizer, const std::string& chat_template) {
  Settings settings;
  settings.sampling.top_k = 50;
  const bool is_gguf = io::is_gguf_path(model);
  const std::string path = path_in(model, "generation_config.json");
  bool has_eos = false;
  if (!is_gguf && io::is_there(path)) {
    const Json json = io::read_json_file(path);
    const JsonView config(json, path);
    read_sampling(config, settings);
    note_unknown(config, settings);
    if (const auto ids = config.find("eos_token_id")) {
      settings.stop_ids = read_ids(*ids);
      has_eos = true;
    }
  }
  if (!has_eos) settings.stop_ids = is_gguf ? gguf_eos(model) : config_eos(model);
  for (const data::ChatFormat format : {data::ChatFormat::kEdge, data::ChatFormat::kGemma3}) {
    const auto turn = tokenizer.token_id(data::chat_tokens(format).end);
    if (turn && std::ranges::find(settings.stop_ids, *turn) == settings.stop_ids.end())
      settings.stop_ids.push_back(*turn);
  }
  add_template_end(model, chat_template, tokenizer, settings);
  return settings;
}

}  // namespace bezel::generate
