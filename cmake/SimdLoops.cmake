# The loops of bezel/kernels/simd, compiled once for each instruction set that it is worth it for; dispatch.cpp chooses
# when the program runs. Nothing else may be compiled with these flags.
# psabi: vectors are passed within a file only.
set(BEZEL_SIMD_FLAGS -O3 -fopenmp-simd -fno-math-errno -fno-trapping-math -Wno-psabi)

function(bezel_simd name sources)
  add_library(bezel_simd_${name} OBJECT ${sources})
  bezel_flags(bezel_simd_${name})
  target_compile_options(bezel_simd_${name} PRIVATE ${BEZEL_SIMD_FLAGS} ${ARGN})
  target_compile_definitions(bezel_simd_${name} PRIVATE BEZEL_SIMD_ROW_KERNELS=${name}_row_kernels
    BEZEL_SIMD_ATTENTION_LOOPS=${name}_attention_loops BEZEL_SIMD_WEIGHT_KERNELS=${name}_weight_kernels
    BEZEL_SIMD_LOW_RANK_LOOPS=${name}_low_rank_loops BEZEL_SIMD_PRODUCTS=${name}_products
    BEZEL_SIMD_FP32_GEMM_KERNELS=${name}_fp32_gemm_kernels BEZEL_SIMD_UNPACKERS=${name}_unpackers)
  target_sources(bezel PRIVATE $<TARGET_OBJECTS:bezel_simd_${name}>)
endfunction()

set(loops bezel/kernels/simd/row_kernels.cpp bezel/kernels/simd/weight_kernels.cpp bezel/kernels/simd/unpack.cpp
  bezel/kernels/simd/fp32_gemm.cpp)
set(product bezel/kernels/simd/product.cpp bezel/kernels/simd/low_rank.cpp bezel/kernels/simd/attention.cpp)
bezel_simd(baseline "${loops};${product}")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  bezel_simd(avx2 "${loops};${product}" -mavx2 -mfma)
  set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512)
  bezel_simd(avx512 "${loops};${product}" ${avx512})
  bezel_simd(avx512bf16 "bezel/kernels/simd/weight_kernels.cpp;${product}" ${avx512} -mavx512bf16)
endif()

# Products by tile units: an object of its own, empty where the compiler or its assembler does not know them. Without
# the flags above: what it copies is little, and the functions of the standard library that it shares run everywhere.
add_library(bezel_simd_amx OBJECT bezel/kernels/simd/amx_tiles.cpp)
bezel_flags(bezel_simd_amx)
target_compile_options(bezel_simd_amx PRIVATE ${BEZEL_SIMD_FLAGS})
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_FLAGS "-mamx-tile -mamx-bf16")
  check_cxx_source_compiles("#include <immintrin.h>
int main() { _tile_zero(0); _tile_dpbf16ps(0, 4, 6); }" BEZEL_COMPILER_KNOWS_AMX)
  unset(CMAKE_REQUIRED_FLAGS)
  if(BEZEL_COMPILER_KNOWS_AMX)
    target_compile_options(bezel_simd_amx PRIVATE -mamx-tile -mamx-bf16)
  endif()
endif()
target_sources(bezel PRIVATE $<TARGET_OBJECTS:bezel_simd_amx>)
