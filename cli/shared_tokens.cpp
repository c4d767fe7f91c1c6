#include "cli/shared_tokens.h"

#include <cstdio>

namespace bezel::cli {

void add_shared_tokens(bool shares, double saved, io::Json& out) {
  out["shares_prefixes"] = shares;
  out["shared_tokens"] = saved;
}

std::string shared_tokens_text(const io::Json& out) {
  if (!out["shares_prefixes"].get<bool>()) return "";
  char text[120];
  std::snprintf(text, sizeof text, "share_prefixes: %.1f %% of the tokens, which samples begin alike by, are spared\n",
                100 * out["shared_tokens"].get<double>());
  return text;
}

}  // namespace bezel::cli
