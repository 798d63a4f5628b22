#include "kernels/attention.h"

#include <bit>

#include "core/error.h"
#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const AttentionShape&, const AttentionInputs&, Tensor&, Tensor&, Stream&)>
    attention_forward_slot("attention_forward");
constinit KernelSlot<void(const AttentionShape&, const AttentionSaved&, const Tensor&, Tensor&,
                          Tensor&, Tensor&, Stream&)>
    attention_backward_slot("attention_backward");

void check_shape(const AttentionShape& shape) {
  FATHOM_CHECK(shape.num_heads > 0 && shape.nope_size >= 0 && shape.rope_size >= 0 &&
                   shape.nope_size + shape.rope_size > 0 && shape.value_size > 0 &&
                   shape.rope_column >= 0,
               "attention of ", shape.num_heads, " heads, sizes ", shape.nope_size, " + ",
               shape.rope_size, " and ", shape.value_size, ", rope column ", shape.rope_column);
  FATHOM_CHECK(shape.num_chunks > 0 &&
                   std::has_single_bit(static_cast<unsigned>(shape.num_chunks)) &&
                   shape.num_heads % shape.num_chunks == 0,
               "attention: ", shape.num_chunks, " chunks of ", shape.num_heads, " heads");
}

namespace {

// `latent_dtype`: of latent or dlatent.
void check_attention(const TensorCheck& check, const AttentionShape& shape,
                     const AttentionSaved& tensors, DType latent_dtype) {
  check_shape(shape);
  const AttentionInputs& inputs = tensors.inputs;
  check.rank("q or dq", inputs.q, 2);
  const DType dtype = check.activation_dtype("q or dq", inputs.q);
  const std::int64_t num_tokens = inputs.q.size(0);
  const std::int64_t num_heads = shape.num_heads;
  check.shape("q or dq", inputs.q, {num_tokens, num_heads * (shape.nope_size + shape.rope_size)},
              dtype);
  check.shape("kv or dkv", inputs.kv,
              {num_tokens, num_heads * (shape.nope_size + shape.value_size)}, dtype);
  check.rows("latent or dlatent", inputs.latent, num_tokens, shape.rope_column + shape.rope_size,
             latent_dtype);
  check.rank("segments", inputs.segments, 1);
  check.dtype_and_device("segments", inputs.segments, DType::kInt32);
  FATHOM_CHECK(inputs.segments.size(0) >= 1, "attention: segments of size ",
               inputs.segments.shape());
  check.shape("out or dout", tensors.out, {num_tokens, num_heads * shape.value_size}, dtype);
  check.shape("lse", tensors.lse, {num_tokens, num_heads});
}

}  // namespace

void attention_forward(const AttentionShape& shape, const AttentionInputs& inputs, Tensor& out,
                       Tensor& lse, Stream& stream) {
  check_attention({"attention_forward", stream}, shape, {inputs, out, lse}, inputs.q.dtype());
  attention_forward_slot(stream, shape, inputs, out, lse);
}

void attention_backward(const AttentionShape& shape, const AttentionSaved& saved,
                        const Tensor& dout, Tensor& dq, Tensor& dkv, Tensor& dlatent,
                        Stream& stream) {
  check_attention({"attention_backward", stream}, shape, saved, saved.inputs.q.dtype());
  check_attention({"attention_backward", stream}, shape,
                  {{dq, dkv, dlatent, saved.inputs.segments}, dout, saved.lse},
                  dlatent.dtype() == DType::kFloat32 ? DType::kFloat32 : dq.dtype());
  FATHOM_CHECK(dq.dtype() == saved.inputs.q.dtype(), "attention_backward: dq is ", dq.dtype(),
               ", q ", saved.inputs.q.dtype());
  attention_backward_slot(stream, shape, saved, dout, dq, dkv, dlatent);
}

}  // namespace fathom::kernels
