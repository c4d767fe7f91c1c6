#pragma once

#include "bezel/input/batch.h"
#include "bezel/input/raw_inputs.h"

/// The parts of `input` that data sets make.
namespace bezel::data {

using input::Batch;
using input::kIgnoreLabel;
using input::make_batch;
using input::Media;
using input::MediaKind;
using input::MediaTokenIds;
using input::PreferenceRows;
using input::RawInputs;
using input::read_raw_inputs;

}  // namespace bezel::data
