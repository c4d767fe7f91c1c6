#pragma once

namespace bezel::cli {

/// Makes malloc keep freed memory instead of returning it to the system: clearing fresh pages for the next tensor of
/// the same size takes a tenth of a training step. Affects the whole process until it ends. No effect without glibc,
/// nor where the environment sets it (MALLOC_MMAP_MAX_, MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ or
/// GLIBC_TUNABLES with a glibc.malloc setting).
void keep_freed_memory();

}  // namespace bezel::cli
