#include "cli/train_help.h"

#include <cstdio>
#include <sstream>

#include "bezel/train/config.h"
#include "cli/command.h"

namespace bezel::cli {

std::string train_keys_help() {
  std::ostringstream out;
  out << "  --quiet        print nothing but errors\n"
         "  --json-lines   print one JSON object a line on stdout: reference, start, saturation, predictions,\n"
         "                 step, expert_load, eval, save, end\n\n"
         "Keys, in CONFIG.yaml as `key: value`, or as flags `--key value`:\n";
  for (const train::ConfigKey& key : train::config_keys()) {
    char line[96];
    std::snprintf(line, sizeof line, "  %-28s %-16s ", std::string(key.name).c_str(), std::string(key.type).c_str());
    out << line << key.help;
    if (!key.fallback.empty()) out << " [" << key.fallback << "]";
    if (!key.aliases.empty()) out << "; also " << key.aliases;
    out << '\n';
  }
  return out.str();
}

}  // namespace bezel::cli
