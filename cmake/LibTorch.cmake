# Defines the imported target `torch` from a LibTorch folder (the one that holds include/ and lib/).
#
# TorchConfig.cmake is left aside on purpose: that of a CUDA build insists on a CUDA toolkit, which nothing here needs to
# compile. libtorch itself is linked with --no-as-needed, so in a CUDA build its dependence on libtorch_cuda loads the
# CUDA kernels at run time.
#
# Looked for in: -DLIBTORCH=..., the environment's LIBTORCH, .venv of the source folder.
if(NOT LIBTORCH)
  if(DEFINED ENV{LIBTORCH} AND NOT "$ENV{LIBTORCH}" STREQUAL "")
    set(LIBTORCH "$ENV{LIBTORCH}")
  else()
    file(GLOB _bezel_torch_dirs "${CMAKE_CURRENT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch")
    if(_bezel_torch_dirs)
      list(GET _bezel_torch_dirs 0 LIBTORCH)
    endif()
  endif()
endif()
if(NOT EXISTS "${LIBTORCH}/include/ATen/ATen.h")
  message(FATAL_ERROR "No LibTorch in '${LIBTORCH}' (no include/ATen/ATen.h). Run `make setup`, or set LIBTORCH to a folder with include/ and lib/.")
endif()
foreach(_bezel_lib torch torch_cpu c10)
  find_library(BEZEL_LIB_${_bezel_lib} NAMES ${_bezel_lib} PATHS "${LIBTORCH}/lib" NO_DEFAULT_PATH REQUIRED)
endforeach()
message(STATUS "LibTorch: ${LIBTORCH}")

add_library(torch INTERFACE IMPORTED)
target_include_directories(torch SYSTEM INTERFACE "${LIBTORCH}/include" "${LIBTORCH}/include/torch/csrc/api/include")
# at::parallel_for is a template over OpenMP: without this flag it compiles, and runs on one thread. The runtime has the
# name that LibTorch's own copy has (libgomp.so.1), so a process holds one of the two.
target_compile_options(torch INTERFACE -fopenmp)
target_link_options(torch INTERFACE -fopenmp "-Wl,-rpath,${LIBTORCH}/lib")
target_link_libraries(torch INTERFACE -Wl,--no-as-needed "${BEZEL_LIB_torch}" "${BEZEL_LIB_torch_cpu}" "${BEZEL_LIB_c10}" -Wl,--as-needed)
# Wheels older than 2.7 were built with the old string ABI; the flag must match.
if(EXISTS "${LIBTORCH}/share/cmake/Torch/TorchConfig.cmake")
  file(STRINGS "${LIBTORCH}/share/cmake/Torch/TorchConfig.cmake" _bezel_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
  if(_bezel_abi)
    target_compile_definitions(torch INTERFACE _GLIBCXX_USE_CXX11_ABI=0)
  endif()
endif()
