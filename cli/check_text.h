#pragma once

#include <string>

#include "bezel/io/json.h"
#include "bezel/report/data_check.h"
#include "bezel/report/run_estimate.h"
#include "bezel/report/sample_view.h"

namespace bezel::cli {

/// What `bezel preprocess --json` says of a sample, of a data set, and of the run.
io::Json sample_json(const report::SampleView& view);
io::Json check_json(const data::Dataset& data, const report::DataCheck& check);
io::Json estimate_json(const report::RunEstimate& run);

/// A row that samples [{source, tokens}, …] share, number `idx` of the first epoch.
std::string row_text(std::size_t idx, std::size_t tokens, const io::Json& samples);

/// Whether no line and no media are bad.
bool is_good(const data::Dataset& data, const report::DataCheck& check);

/// `--dry-run` in words, from {"train": …, "eval": … where there is one, "run": …}.
std::string check_text(const io::Json& report);

}  // namespace bezel::cli
