#include "cli/gguf_out.h"

#include <cstdio>
#include <filesystem>

#include "bezel/data/modelfile.h"
#include "bezel/error.h"
#include "bezel/gemma4/gguf_export.h"
#include "bezel/gemma4/mmproj_export.h"
#include "bezel/gemma4/model_files.h"
#include "bezel/io/atomic_write.h"
#include "cli/command.h"
#include "cli/merge_parts.h"

namespace bezel::cli {
namespace {

namespace fs = std::filesystem;

/// The towers' file beside that of the language model.
std::string mmproj_path(const std::string& output) {
  const fs::path path(output);
  return (path.parent_path() / ("mmproj-" + path.filename().string())).string();
}

std::string modelfile_path(const std::string& output) {
  return fs::path(output).replace_extension(".Modelfile").string();
}

void check_new(const std::string& path) {
  if (fs::exists(fs::symlink_status(path))) throw Error(ErrorKind::kConfig, path, ": is there already");
}

void print_errors(const quant::GgufReport& report) {
  const quant::PackingError& packed = report.packed;
  if (packed.matrices == 0) return;
  std::printf("%s matrices packed: the error this adds is %.2f%% of the weights' norm (worst: %.2f%% in %s)\n",
              with_commas(packed.matrices).c_str(), 100 * packed.error / packed.matrix, 100 * packed.worst_error,
              packed.worst.c_str());
  const quant::PackingError& merged = report.merged;
  if (merged.matrices == 0) return;
  std::printf(
      "of the %s merged ones it is %.2f%% of the weights' norm, and %.0f%% of the norm of the adapter's update\n",
      with_commas(merged.matrices).c_str(), 100 * merged.error / merged.matrix, 100 * merged.error / merged.update);
}

void write(const gemma4::GgufExport& made, const std::string& output) {
  for (const std::string& name : made.left_out)
    std::fprintf(stderr, "warning: %s is left out: it is quantized, and the model does not use it\n", name.c_str());
  const quant::GgufReport report = gemma4::write_gguf(made, output);
  std::printf("%s: %s tensors, %s of them copied; %s\n", output.c_str(), with_commas(report.tensors).c_str(),
              with_commas(report.copied).c_str(), bytes_text(static_cast<double>(fs::file_size(output))).c_str());
  print_errors(report);
}

}  // namespace

std::string gguf_type_help() {
  std::string names;
  for (const std::string& name : quant::gguf_mix_names()) names += (names.empty() ? "" : ", ") + name;
  return names;
}

void write_gguf_model(const GgufOut& out) {
  if (!io::is_gguf_path(out.output))
    throw Error(ErrorKind::kConfig, "--output ", out.output, ": a GGUF file's name ends in .gguf");
  check_new(out.output);
  const auto mix = out.type.empty() ? std::nullopt : quant::gguf_mix(out.type);
  gemma4::GgufExport text = gemma4::plan_gguf({out.model, out.mmproj}, mix);
  print_warnings(text.warnings);
  std::optional<gemma4::GgufExport> towers = gemma4::plan_mmproj({out.model, out.mmproj}, mix);
  if (towers) check_new(mmproj_path(out.output));
  check_new(modelfile_path(out.output));
  std::vector<quant::GgufPart*> parts;
  for (gemma4::GgufExport* made : {&text, towers ? &*towers : nullptr})
    for (std::size_t i = 0; made != nullptr && i < made->parts.size(); ++i) parts.push_back(&made->parts[i]);
  if (const std::int64_t merged = merge_parts({out.model, out.mmproj}, out.adapter, "gguf", parts); merged > 0)
    std::printf("%s matrices merged\n", with_commas(merged).c_str());
  if (towers) write(*towers, mmproj_path(out.output));
  write(text, out.output);
  io::write_file_atomically(modelfile_path(out.output), data::ollama_modelfile(out.output));
  std::printf("%s, for Ollama\n", modelfile_path(out.output).c_str());
}

}  // namespace bezel::cli
