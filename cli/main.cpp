#include <algorithm>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <unistd.h>

#include "bezel/error.h"
#include "bezel/io/torn_map.h"
#include "bezel/nearest.h"
#include "cli/command.h"
#include "cli/one_line.h"
#include "cli/openmp_wait.h"
#include "cli/paths.h"
#include "cli/processes.h"

namespace bezel::cli {
namespace {

int fail(int code, const std::string& message) {
  const std::string line = one_line(message);
  end_processes(code, line);
  std::cerr << "bezel: " << line << '\n';
  return code;
}

int fail(ErrorKind kind, const std::string& message) { return fail(static_cast<int>(kind), message); }

int fail_internal(const std::string& what) { return fail(1, "internal error (please report): " + what); }

int fail_memory(const std::string& what) {
  return fail(ErrorKind::kMemory, "out of memory (" + what +
                                      "). These lower it: a smaller micro_batch_size, "
                                      "max_seq_length or max_soft_tokens, gradient_checkpointing: true, storage: nf4, "
                                      "dtype: bfloat16, fewer lora_towers");
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

bool is_out_of_memory(const std::string& message) {
  return message.find("not enough memory") != std::string::npos ||
         message.find("can't allocate memory") != std::string::npos ||
         message.find("out of memory") != std::string::npos;
}

// A file opened later would otherwise become standard output, and what is printed would end up in it.
void open_standard_files() {
  int fd = 0;
  do fd = ::open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) ::close(fd);
}

void check_subcommand(const CLI::App& app, const std::string& name) {
  const std::vector<const CLI::App*> commands = app.get_subcommands({});
  std::vector<std::string_view> names;
  for (const CLI::App* command : commands) names.push_back(command->get_name());
  if (name.starts_with("-") || std::ranges::find(names, name) != names.end()) return;
  const std::string near = nearest_name(name, names);
  throw Error(ErrorKind::kConfig, "unknown subcommand '", name, "'",
              near.empty() ? "" : "; did you mean '" + near + "'?", "; `bezel --help` lists them");
}

// Unknown flags of a subcommand that has no config keys, before any flag that is missing.
void check_flags(const CLI::App& command, const std::vector<std::string>& arguments) {
  if (command.get_allow_extras() || command.get_prefix_command()) return;
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  const std::vector<std::string_view> known(names.begin(), names.end());
  std::string unknown;
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    const std::string flag = argument.substr(0, argument.find('='));
    if (!flag.starts_with("--") || std::ranges::find(names, flag) != names.end()) continue;
    const std::string near = nearest_name(flag, known);
    unknown += (unknown.empty() ? "" : ", ") + flag + (near.empty() ? "" : " (did you mean " + near + "?)");
  }
  if (!unknown.empty())
    throw Error(ErrorKind::kConfig, "unknown: ", unknown, "; `bezel ", command.get_name(), " --help` lists all flags");
}

int run(int argc, char** argv) {
  CLI::App app{
      "Fine-tunes Gemma 4, and the text models of Gemma 3, with LoRA: Hugging Face checkpoints in, PEFT adapters out.",
      "bezel"};
  app.require_subcommand(1);
  app.set_version_flag("--version", [] { return version_text(); });
  app.footer(
      "`bezel SUBCOMMAND --help` explains each.\n"
      "Exit codes: 0 done, 2 usage or config, 3 bad model, adapter or data, 4 input/output, 5 out of memory,\n"
      "            6 diverged, 1 internal error (please report)");
  int status = 0;
  add_train(app, status);
  add_preprocess(app, status);
  add_forward(app, status);
  add_bench(app, status);
  add_generate(app, status);
  add_inspect(app, status);
  add_quantize(app, status);
  add_merge(app, status);
  add_convert(app, status);
  add_evaluate(app, status);
  add_verify_adapter(app, status);
  add_doctor(app, status);
  add_version(app, status);
  add_reference(app, status);
  read_paths(app);
  if (argc == 1) {
    std::cout << app.help();
    return static_cast<int>(ErrorKind::kConfig);
  }
  check_subcommand(app, argv[1]);
  check_runs_alone(argv[1]);
  for (const CLI::App* command : app.get_subcommands({}))
    if (command->get_name() == argv[1]) check_flags(*command, std::vector<std::string>(argv + 2, argv + argc));
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return fail(ErrorKind::kConfig, std::string(error.what()) + "; see `bezel --help`");
  }
  return status;
}

}  // namespace
}  // namespace bezel::cli

// Calls it before the constructors of shared libraries: those of LibTorch take a quarter of a second, which a restart
// from main would pay twice.
[[gnu::section(".preinit_array"), gnu::used]] static void (*restart_first)(int, char**, char**) =
    [](int /*argc*/, char** argv, char** environment) { bezel::cli::restart_with_bounded_spin(argv, environment); };

int main(int argc, char** argv) {
  using namespace bezel;
  cli::open_standard_files();
  io::survive_torn_maps();
  try {
    const int status = cli::run(argc, argv);
    io::throw_if_torn();
    cli::leave_processes();
    return status;
  } catch (const Error& error) {
    return cli::fail(error.kind(), error.what());
  } catch (const std::bad_alloc&) {
    return cli::fail_memory("an allocation failed");
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    if (cli::is_out_of_memory(message)) return cli::fail_memory(cli::first_line(message));
    return cli::fail_internal(message);
  } catch (const std::exception& error) {
    return cli::fail_internal(error.what());
  }
}
