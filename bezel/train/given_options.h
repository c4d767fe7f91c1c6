#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bezel::train {

/// The options of a map, such as optim_args, that a config gives.
class GivenOptions {
 public:
  /// `text` is what show() writes for the option's value: "null" for one that is not given.
  void add(std::string_view name, std::string text) {
    if (text != "null") options_.emplace_back(name, std::move(text));
  }
  /// "{name: value, …}"
  std::string yaml() const {
    std::string out = "{";
    for (const auto& [name, text] : options_) out.append(out.size() > 1 ? ", " : "").append(name + ": " + text);
    return out + "}";
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, text] : options_) names.push_back(name);
    return names;
  }

 private:
  std::vector<std::pair<std::string, std::string>> options_;
};

}  // namespace bezel::train
