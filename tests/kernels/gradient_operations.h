#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/embedding.h"
#include "kernels/grouped_matmul.h"
#include "kernels/matmul.h"
#include "kernels/rms_norm.h"
#include "tests/kernels/op_reference.h"

namespace fathom::kernels {

// An operation that adds to a gradient of that shape.
struct GradientOperation {
  std::string name;
  Shape shape;
  std::function<void(GradientSum&, Stream&)> add;
};

// Brings a CPU tensor to the device of a test, a float32 one in the dtype of activations or as it
// is.
using PlaceTensor = std::function<Tensor(const Tensor&, bool is_activation)>;

// All of them, on `num_rows` rows: whole units of 4. Some of the table's rows have no token, and
// some of the experts no rows.
inline std::vector<GradientOperation> gradient_operations(std::int64_t num_rows, std::int64_t in,
                                                          std::int64_t out,
                                                          const PlaceTensor& place, Stream& cpu) {
  const Tensor x = place(random_tensor({num_rows, in}, "x", cpu), true);
  const Tensor dy = place(random_tensor({num_rows, out}, "dy", cpu), true);
  const Tensor dx = place(random_tensor({num_rows, in}, "dx", cpu), true);
  const Tensor gain = place(random_tensor({in}, "gain", cpu), true);
  const Tensor inv_rms = place(random_tensor({num_rows}, "inv_rms", cpu), false);
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < num_rows; ++i) {
    ids.push_back(i % 3 == 0 ? 2 : 4);  // of a table that begins at 1
  }
  const Tensor tokens = place(tensor_of(ids, Shape{num_rows}, cpu), false);
  const std::int64_t half = num_rows / 2;
  const std::vector<std::int64_t> bounds{0,    half / 2, half,    half,
                                         half, num_rows, num_rows};  // 3 experts, 2 parts
  const Tensor parts = place(tensor_of(bounds, Shape{7}, cpu), false);
  const std::vector<std::int64_t> late{0, 0, 0, 0, num_rows};  // 4 experts
  const Tensor offsets = place(tensor_of(late, Shape{5}, cpu), false);
  return {{"matmul",
           {out, in},
           [=](GradientSum& sum, Stream& stream) { matmul_backward_weight(dy, x, sum, stream); }},
          {"grouped_matmul by parts",
           {3, out, in},
           [=](GradientSum& sum, Stream& stream) {
             grouped_matmul_backward_weight(dy, x, parts, sum, stream);
           }},
          {"grouped_matmul",
           {4, out, in},
           [=](GradientSum& sum, Stream& stream) {
             grouped_matmul_backward_weight(dy, x, offsets, sum, stream);
           }},
          {"rms_norm gain",
           {in},
           [=](GradientSum& sum, Stream& stream) {
             Tensor through = Tensor::empty(x.shape(), x.dtype(), stream);
             rms_norm_backward(dx, {x, gain, inv_rms}, through, sum, stream);
           }},
          {"embedding", {6, in}, [=](GradientSum& sum, Stream& stream) {
             embedding_backward(tokens, dx, 1, sum, stream);
           }}};
}

}  // namespace fathom::kernels
