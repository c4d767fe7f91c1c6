#include "cli/orbax_out.h"

#include <cstdio>
#include <filesystem>

#include "bezel/error.h"
#include "bezel/gemma4/orbax_export.h"
#include "cli/command.h"
#include "cli/merge_parts.h"

namespace bezel::cli {
namespace {

std::optional<io::DType> parse(const std::string& dtype) {
  if (dtype.empty()) return std::nullopt;
  if (dtype != "float32" && dtype != "bfloat16")
    throw Error(ErrorKind::kConfig, "--dtype ", dtype, ": --to orbax writes float32 or bfloat16");
  return dtype == "float32" ? io::DType::kF32 : io::DType::kBF16;
}

}  // namespace

void write_orbax_model(const OrbaxOut& out) {
  const std::optional<io::DType> dtype = parse(out.dtype);
  if (std::filesystem::exists(out.output)) throw Error(ErrorKind::kConfig, out.output, ": is there already");
  gemma4::OrbaxExport made = gemma4::plan_orbax_export(out.model);
  print_warnings(made.warnings);
  std::vector<quant::GgufPart*> parts;
  for (quant::GgufPart& part : made.parts) parts.push_back(&part);
  const std::int64_t merged = merge_parts({out.model}, out.adapter, "orbax", parts);
  const gemma4::OrbaxWritten written = gemma4::write_orbax(made, dtype, out.output);
  for (const std::string& name : written.zeros)
    std::fprintf(stderr, "warning: array %s is zeros: the model does not compute it and the checkpoint lacks it\n",
                 name.c_str());
  for (const std::string& name : written.left_out)
    std::fprintf(stderr, "warning: %s is left out: the model does not compute it, and no array holds it\n",
                 name.c_str());
  if (merged > 0) std::printf("%s matrices merged\n", with_commas(merged).c_str());
  std::printf("%s arrays, %s elements\n%s\n", with_commas(written.arrays).c_str(),
              with_commas(written.elements).c_str(), out.output.c_str());
}

}  // namespace bezel::cli
