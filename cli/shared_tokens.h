#pragma once

#include <string>

#include "bezel/io/json.h"

/// What commands say of samples that begin alike.
namespace bezel::cli {

/// Adds "shares_prefixes", and "shared_tokens", the share of the tokens that was not computed.
void add_shared_tokens(bool shares, double saved, io::Json& out);

/// The same as a line; "" where nothing is shared.
std::string shared_tokens_text(const io::Json& out);

}  // namespace bezel::cli
