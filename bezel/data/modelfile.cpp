#include "bezel/data/modelfile.h"

#include <array>
#include <filesystem>
#include <sstream>

#include "bezel/data/chat_template.h"
#include "bezel/io/gguf_model.h"

namespace bezel::data {
namespace {

// Gemma 4 has a role for every message; the answer begins behind the last line.
std::string gemma4_template(ChatFormat format) {
  const auto [begin, end] = chat_tokens(format);
  std::ostringstream text;
  text << "{{- range .Messages }}" << begin << "{{ if eq .Role \"assistant\" }}model{{ else }}{{ .Role }}{{ end }}\n"
       << "{{ .Content }}" << end << "\n{{ end }}" << begin << "model\n"
       << generation_tail(format, /*enable_thinking=*/false);
  return text.str();
}

// Gemma 3 has no role for system texts: they are put before the first question.
std::string gemma3_template() {
  const auto [begin, end] = chat_tokens(ChatFormat::kGemma3);
  std::ostringstream text;
  text
      << "{{- $system := \"\" }}{{- range .Messages }}{{- if eq .Role \"system\" }}{{- $system = .Content }}{{- else }}"
      << begin << "{{ if eq .Role \"assistant\" }}model{{ else }}user{{ end }}\n"
      << "{{ if $system }}{{ $system }}\n\n{{ end }}{{- $system = \"\" }}{{ .Content }}" << end
      << "\n{{ end }}{{ end }}" << begin << "model\n";
  return text.str();
}

}  // namespace

std::string ollama_modelfile(const std::string& gguf_path) {
  constexpr std::array<std::pair<const char*, const char*>, 4> kSampling{{{"general.sampling.temp", "temperature"},
                                                                          {"general.sampling.top_k", "top_k"},
                                                                          {"general.sampling.top_p", "top_p"},
                                                                          {"general.sampling.min_p", "min_p"}}};
  const io::GgufModel model = io::GgufModel::open(gguf_path);
  const ChatFormat format = detect_chat_format(gemma4::read_model_config(gguf_path));
  std::ostringstream text;
  text << "FROM ./" << std::filesystem::path(gguf_path).filename().string() << "\n";
  text << "TEMPLATE \"\"\"" << (format == ChatFormat::kGemma3 ? gemma3_template() : gemma4_template(format))
       << "\"\"\"\n";
  text << "PARAMETER stop \"" << chat_tokens(format).end << "\"\n";
  for (const auto& [key, parameter] : kSampling)
    if (const io::GgufValue* value = model.metadata().get(key))
      text << "PARAMETER " << parameter << " " << value->number() << "\n";
  return text.str();
}

}  // namespace bezel::data
