#include "cli/convert_orbax.h"

#include <cstdio>
#include <filesystem>

#include "bezel/error.h"
#include "bezel/gemma4/orbax_check.h"
#include "cli/command.h"

namespace bezel::cli {

void convert_orbax(const gemma4::OrbaxOptions& options, const std::string& output) {
  if (std::filesystem::exists(output)) throw Error(ErrorKind::kConfig, output, ": is there already");
  const gemma4::OrbaxPlan plan = gemma4::plan_orbax(options);
  gemma4::check_orbax_plan(plan, options.config.empty() ? options.model : options.config);
  for (const std::string& name : plan.unused)
    std::fprintf(stderr, "warning: array %s is not used: Gemma 4's Hugging Face form has no place for it\n",
                 name.c_str());
  const io::WrittenCheckpoint written = io::write_checkpoint(plan.checkpoint, output);
  std::int64_t tensors = 0;
  for (const io::CheckpointPart& part : plan.checkpoint.parts)
    tensors += static_cast<std::int64_t>(part.tensors.size());
  std::printf("%s arrays, %s of them unused; %s tensors, %s%s\n%s\n", with_commas(plan.arrays).c_str(),
              with_commas(static_cast<long long>(plan.unused.size())).c_str(), with_commas(tensors).c_str(),
              bytes_text(static_cast<double>(written.bytes)).c_str(),
              plan.rounds ? ", rounded from float32 to bfloat16" : "", output.c_str());
}

}  // namespace bezel::cli
