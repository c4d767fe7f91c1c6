#pragma once

#include <string>
#include <string_view>

namespace bezel::io {

/// Why a stored tensor's name is not one of a released checkpoint, and how to get one: what wrapped the model when it
/// was saved (torch.compile, FSDP, DataParallel, PEFT), matrices of an adapter that is not merged, or the prefix in
/// front of a known name. "" for a name that canonical_tensor_name understands, and for one that says nothing.
std::string foreign_name_advice(std::string_view stored);

}  // namespace bezel::io
