// Preloaded into `bezel`: a disk that hangs. Whoever opens a file whose name ends with $HANG_OPEN, but for the main
// thread, which has looked at every file before, never comes back.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

void maybe_hang(const char* path) {
  const char* const name = std::getenv("HANG_OPEN");
  if (name == nullptr || ::syscall(SYS_gettid) == ::getpid()) return;
  const std::size_t bytes = std::strlen(name), path_bytes = std::strlen(path);
  if (path_bytes < bytes || std::strcmp(path + path_bytes - bytes, name) != 0) return;
  for (;;) ::pause();
}

using Open = int (*)(const char*, int, ...);
using OpenStream = std::FILE* (*)(const char*, const char*);

}  // namespace

// What std::ifstream calls.
extern "C" std::FILE* fopen64(const char* path, const char* mode) {
  maybe_hang(path);
  static const auto next = reinterpret_cast<OpenStream>(::dlsym(RTLD_NEXT, "fopen64"));
  return next(path, mode);
}

extern "C" std::FILE* fopen(const char* path, const char* mode) { return fopen64(path, mode); }

extern "C" int open(const char* path, int flags, ...) {
  std::va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);  // meaningless, and not looked at, without O_CREAT
  va_end(rest);
  maybe_hang(path);
  static const auto next = reinterpret_cast<Open>(::dlsym(RTLD_NEXT, "open"));
  return next(path, flags, mode);
}
