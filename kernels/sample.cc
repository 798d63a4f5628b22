#include "kernels/sample.h"

#include <bit>

#include "kernels/check_tensor.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"

namespace fathom::kernels {

constinit KernelSlot<void(const SamplingOptions&, const Tensor&, std::int64_t, const Tensor&,
                          Tensor&, Stream&)>
    sample_tokens_slot{"sample_tokens"};

std::array<std::int64_t, 2> sample_key(const RandomSource& random, std::int64_t position) {
  return {std::bit_cast<std::int64_t>(random.key()), position};
}

void sample_tokens(const SamplingOptions& options, const Tensor& keys, std::int64_t num_allowed,
                   Tensor& logits, Tensor& tokens, Stream& stream) {
  const TensorCheck check("sample_tokens", stream);
  check.rank("logits", logits, 2);
  check.dtype_and_device("logits", logits, DType::kFloat32);
  check.shape("tokens", tokens, Shape{logits.size(0)}, DType::kInt32);
  FATHOM_CHECK(num_allowed >= 1 && num_allowed <= logits.size(1), num_allowed, " ids of ",
               logits.size(1));
  FATHOM_CHECK(options.temperature >= 0.0F && options.top_k >= 0 && options.top_p > 0.0F &&
                   options.top_p <= 1.0F,
               "temperature ", options.temperature, ", top_k ", options.top_k, ", top_p ",
               options.top_p);
  if (options.temperature > 0.0F) {
    check.shape("keys", keys, Shape{logits.size(0), 2}, DType::kInt64);
  }
  if (options.temperature > 0.0F && options.temperature != 1.0F) {
    scale(logits, 1.0F / options.temperature, stream);
  }
  sample_tokens_slot(stream, options, keys, num_allowed, logits, tokens);
}

void token_logprobs(Tensor& logits, const Tensor& tokens, int num_chunks, Tensor& logprobs,
                    Stream& stream) {
  const Shape per_row{logits.size(0)};
  Tensor row_max = Tensor::empty(per_row, DType::kFloat32, stream);
  Tensor sums = Tensor::empty(Shape{2, logits.size(0)}, DType::kFloat32, stream);
  Tensor mask = Tensor::empty(per_row, DType::kFloat32, stream);
  cross_entropy_row_max(logits, row_max, sums, stream);
  cross_entropy_exp_sum(logits, {tokens, 0, num_chunks}, row_max, sums, stream);
  fill(mask, 1.0F, stream);
  cross_entropy_loss(sums, mask, logprobs, stream);
  scale(logprobs, -1.0F, stream);
}

}  // namespace fathom::kernels
