#include <algorithm>
#include <cstdio>
#include <sstream>

#include "bezel/train/config.h"
#include "bezel/train/foreign_keys.h"
#include "bezel/train/word_list.h"
#include "cli/command.h"

namespace bezel::cli {
namespace {

// Text in a cell of a Markdown table.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|' || c == '<' || c == '*') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string code(std::string_view text) {
  std::string out = "`";
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return text.empty() ? "" : out + "`";
}

void add_options(std::ostream& out, const CLI::App& command) {
  out << "| option | value | does |\n|---|---|---|\n";
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_group().empty()) continue;
    const bool takes_value = option->get_expected_max() > 0;
    out << "| " << code(option->get_name(option->get_positional(), true))
        << (option->get_required() ? " (required)" : "") << " | " << (takes_value ? cell(option->get_type_name()) : "")
        << " | " << cell(option->get_description()) << " |\n";
  }
}

void add_keys(std::ostream& out) {
  out << "## Keys of a training config\n\nIn CONFIG.yaml as `key: value`, or as flags `--key value`, which count "
         "before "
         "the file; `-` and `_` are the same.\n\n| key | also | value | default | meaning |\n|---|---|---|---|---|\n";
  for (const train::ConfigKey& key : train::config_keys())
    out << "| " << code(key.name) << " | " << cell(key.aliases) << " | " << cell(key.type) << " | "
        << cell(key.fallback) << " | " << cell(key.help) << " |\n";
}

std::string names_in_code(std::string_view names) {
  std::string out;
  for (const std::string_view name : train::words_of(names)) out += (out.empty() ? "" : " ") + code(name);
  return out;
}

std::string_view effect_text(train::ForeignEffect effect) {
  switch (effect) {
    case train::ForeignEffect::kIgnored:
      return "any; changes nothing, listed once";
    case train::ForeignEffect::kNoted:
      return "any; said once";
    case train::ForeignEffect::kOff:
      return "off";
    case train::ForeignEffect::kOnly:
      break;
  }
  return "";
}

void add_foreign_keys(std::ostream& out) {
  out << "\n## Keys of other tools\n\nThese set nothing. A value that is not accepted is refused with the advice; "
         "docs/recipes.md "
         "explains.\n\n| key | accepted | here |\n|---|---|---|\n";
  for (const train::ForeignKey& key : train::foreign_keys()) {
    std::string accepted(effect_text(key.effect));
    if (!key.accepted.empty()) accepted += (accepted.empty() ? "" : ", ") + names_in_code(key.accepted);
    out << "| " << names_in_code(key.names) << " | " << accepted << " | " << cell(key.advice) << " |\n";
  }
}

std::string reference_text(const CLI::App& app) {
  std::ostringstream out;
  out << "# Reference\n\nMade by `bezel reference` from the program's own tables; a test compares. After a change: "
         "`make "
         "reference`.\n\n"
      << app.get_description() << "\n\n```text\n"
      << app.get_footer() << "\n```\n\n## Commands\n";
  for (const CLI::App* command : app.get_subcommands([](const CLI::App* item) { return !item->get_group().empty(); })) {
    out << "\n### bezel " << command->get_name() << "\n\n" << command->get_description() << ".\n\n";
    add_options(out, *command);
    // What follows a blank line in the footer of train is the table of keys, which comes below.
    std::string footer = command->get_footer();
    if (command->get_name() == "train") footer.resize(std::min(footer.size(), footer.find("\n\n")));
    if (!footer.empty() && footer != app.get_footer()) out << "\n```text\n" << footer << "\n```\n";
  }
  out << '\n';
  add_keys(out);
  add_foreign_keys(out);
  return out.str();
}

}  // namespace

void add_reference(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("reference", "Print docs/REFERENCE.md");
  command->group("");  // not in --help: it is for whoever changes Bezel
  command->callback([&app] { std::printf("%s", reference_text(app).c_str()); });
}

}  // namespace bezel::cli
