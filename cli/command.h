#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

namespace bezel::cli {

/// Each adds one subcommand. Its callback does the work and sets `status`, the exit code, where that is not 0.
void add_train(CLI::App& app, int& status);
void add_forward(CLI::App& app, int& status);
void add_bench(CLI::App& app, int& status);
void add_generate(CLI::App& app, int& status);
void add_inspect(CLI::App& app, int& status);
void add_quantize(CLI::App& app, int& status);
void add_convert(CLI::App& app, int& status);
void add_merge(CLI::App& app, int& status);
void add_preprocess(CLI::App& app, int& status);
void add_evaluate(CLI::App& app, int& status);
void add_verify_adapter(CLI::App& app, int& status);
void add_doctor(CLI::App& app, int& status);
void add_reference(CLI::App& app, int& status);
void add_version(CLI::App& app, int& status);

/// "bezel 0.1.0", LibTorch's version, what the CPU can do.
std::string version_text();

/// 1234567 as "1,234,567".
std::string with_commas(long long value);
/// "1 row", "1,200 rows".
std::string counted(long long count, std::string_view noun);
/// 10485760 as "10.0 MiB".
std::string bytes_text(double bytes);
/// "5GB", "500 MB", "2GiB" or a plain number as bytes. Throws Error (kConfig) naming `flag`.
std::size_t parse_bytes(const std::string& flag, const std::string& text);

/// Each as a line "warning: …" on stderr.
void print_warnings(const std::vector<std::string>& warnings);

/// Prints to stderr how many labels of the inputs padding would predict, where there are any.
void print_dropped_labels(long long count);

/// Says on stderr what released transformers does with a checkpoint whose towers are in the flat key layout.
void warn_of_flat_layout(const std::string& folder);

}  // namespace bezel::cli
