#pragma once

#include <cuda.h>

#include <cstdint>

#include "core/stream.h"

namespace fathom::kernels::cuda {

// Matrices of bfloat16, one after another in device memory.
struct MatrixStack {
  const void* data = nullptr;
  std::int64_t num_matrices = 1;
  std::int64_t num_rows = 0;
  std::int64_t num_columns = 0;
  std::int64_t row_stride = 0;  // elements from one row to the next
};

// What a tensor load needs to know to bring boxes of box_rows x 64 elements of one of the matrices
// to shared memory, with the 128-byte swizzle and zeros for what is outside of the matrix
// (sm90_layout.h); its dimensions are (column, row, matrix). The data must begin at a multiple of
// 16 bytes, row strides must be multiples of 16 bytes and nothing empty, box_rows at most 256.
// Throws DeviceError if the driver refuses.
CUtensorMap tensor_map(const MatrixStack& matrices, int box_rows, Stream& stream);

}  // namespace fathom::kernels::cuda
