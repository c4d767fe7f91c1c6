#pragma once

namespace bezel::kernels {

/// To be called before ATen's cos, sin, tanh, exp or log of many elements. MKL, which computes them on x86, picks its
/// routine at a function's first call, and where two threads make that call at once, one of them may get a routine of
/// lower accuracy (errors of 1e-4 were seen in one run of five). Calls each function once on one thread; then does
/// nothing.
void prepare_vector_math();

}  // namespace bezel::kernels
