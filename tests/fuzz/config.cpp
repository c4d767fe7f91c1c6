// The YAML of a training config: what was read is written and read back to the same.
#include "bezel/train/config.h"

#include "fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bezel;
  const auto config =
      fuzz::accepted([&] { return train::parse_train_config(fuzz::as_text(data, size), "input", {}, false); });
  if (!config) return 0;
  const std::string yaml = train::to_yaml(*config);
  fuzz::require(train::to_yaml(train::parse_train_config(yaml, "again", {}, false)) == yaml);
  return 0;
}
