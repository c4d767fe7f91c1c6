#pragma once

#include <cstddef>
#include <functional>

#include "bezel/quant/four_bit.h"
#include "bezel/quant/integer.h"

/// Codes that one process of a machine makes and all of them read.
namespace bezel::quant {

/// Memory of several processes, which all ask it for the same things in the same order.
class SharedMemory {
 public:
  virtual ~SharedMemory() = default;
  /// The next tensor, on the CPU; its memory stays as long as it is used.
  virtual torch::Tensor next(torch::IntArrayRef sizes, torch::ScalarType dtype) = 0;
  /// Whether this process is the one to fill what comes next: they take turns.
  virtual bool next_is_mine() = 0;
  /// Returns when every process has filled its part.
  virtual void wait() = 0;
};

/// quantize_4bit(matrix) into `memory`, by the process whose turn it is; the others do not read `matrix`. To be called
/// for the result after memory.wait().
std::function<FourBit()> share_4bit(SharedMemory& memory, const torch::Tensor& matrix, FourBitType type,
                                    bool double_quant);

/// The same of quantize_int8.
std::function<IntegerMatrix()> share_int8(SharedMemory& memory, const torch::Tensor& matrix);

}  // namespace bezel::quant
