#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/shape.h"
#include "core/tensor.h"
#include "kernels/gradient_sum.h"
#include "parallel/comm/communicator.h"

namespace fathom::parallel {

// A block of a published tensor inside a rank's local array: rows x columns elements, row-major and
// contiguous there, from local element `local_offset` on. A tensor of one dimension is a single
// row. Published tensors have one or two dimensions.
struct Piece {
  std::string key;     // published name, e.g. model.layers.3.self_attn.q_a_proj.weight
  Shape global_shape;  // never depends on the layout
  std::int64_t row_begin = 0, num_rows = 0;
  std::int64_t column_begin = 0, num_columns = 0;
  std::int64_t local_offset = 0;
  std::int64_t numel() const noexcept { return num_rows * num_columns; }
};

enum class InitialValue { kNormal, kOnes };

// A trainable array of this rank, in whatever arrangement the layer wants; `pieces` say how it maps
// onto published tensors.
struct Parameter {
  // For messages: the first piece's key, or the layer's own name for a fused array.
  std::string name;
  Shape shape;                // local
  std::vector<Piece> pieces;  // ascending local_offset, together they cover the array
  // The ranks that hold this same array and whose gradients add up.
  Communicator* replicas = nullptr;
  bool weight_decay = true;
  bool is_table = false;  // its gradient gets one contribution a token, not one a unit of tokens
  InitialValue initial_value = InitialValue::kNormal;
  // How many matrices of equal size, one above the other, the array is for products with rows; 0:
  // it is not multiplied by.
  std::int64_t num_matrices = 0;

  // float32 or bfloat16, as the replicas have left it: where their values are still under way,
  // the stream waits for them first.
  Tensor& value() {
    arrive();
    return value_;
  }
  const Tensor& value() const {
    arrive();
    return value_;
  }
  // Sum over this rank's tokens of dL/dvalue, empty when a step begins; undefined once it is being
  // summed over the replicas.
  kernels::GradientSum grad;
  // The matrices again, as kernels/packed_matmul.h wants them, while generation has them so
  // (model/packed_weights.h); else undefined.
  Tensor packed;

 private:
  friend class ParameterBuffer;  // owns values and gradients
  void arrive() const {
    if (arrival_ != nullptr) {
      arrival_->wait();
    }
  }
  Tensor value_;
  Work* arrival_ = nullptr;  // of the values from their owners
};

using VisitParameter = std::function<void(Parameter&)>;

// An array that this rank holds whole. `global_shape` has one or two dimensions.
Parameter whole_parameter(const std::string& key, const Shape& global_shape,
                          Communicator& replicas);
// Rows, or columns, [rank * n, (rank + 1) * n) of a matrix cut evenly over `cut`. Throws
// ConfigError when it does not divide.
Parameter row_cut_parameter(const std::string& key, const Shape& global_shape,
                            const Communicator& cut, Communicator& replicas);
Parameter column_cut_parameter(const std::string& key, const Shape& global_shape,
                               const Communicator& cut, Communicator& replicas);

}  // namespace fathom::parallel
