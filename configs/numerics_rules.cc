#include <bit>
#include <numeric>

#include "configs/rules.h"
#include "configs/tensor_core_sizes.h"

namespace fathom::config {
namespace {

constexpr std::int64_t kMaxChunks = 256;

void check_unit(const RunConfig& config, Problems& problems) {
  const Train& train = config.train();
  const std::int64_t unit = config.numerics().gradient_unit_tokens();
  const std::int64_t tensor = config.mesh().tensor();
  const std::int64_t tokens = product_of_sizes(train.micro_batch_size(), train.sequence_length());
  if (!require_size(problems, "numerics.gradient_unit_tokens", unit) || tokens <= 0 ||
      tensor <= 0 || tokens % tensor != 0) {
    return;
  }
  const std::int64_t part = tokens / tensor;
  problems.require(part % unit == 0,
                   "numerics.mode EXACT: a rank's part of a micro-batch, "
                   "train.micro_batch_size (",
                   train.micro_batch_size(), ") x train.sequence_length (", train.sequence_length(),
                   ") / mesh.tensor (", tensor, ") = ", part,
                   " tokens, is not whole units of "
                   "numerics.gradient_unit_tokens (",
                   unit, "): make the micro-batch larger, or set the unit to ",
                   std::gcd(part, unit), ", which changes the bits of the run");
}

// False when there is no sensible number of chunks.
bool check_chunks(const RunConfig& config, Problems& problems) {
  const Model& model = config.model();
  const std::int64_t chunks = config.numerics().tensor_chunks();
  if (!problems.require(chunks > 0 && chunks <= kMaxChunks &&
                            std::has_single_bit(static_cast<std::uint64_t>(chunks)),
                        "numerics.tensor_chunks (", chunks, ") is not a power of two in [1, ",
                        kMaxChunks, ']')) {
    return false;
  }
  require_divides_tensor_sizes(problems, "numerics.tensor_chunks", chunks, model);
  const std::int64_t tensor = config.mesh().tensor();
  problems.require(
      tensor <= 0 || chunks % tensor == 0, "mesh.tensor (", tensor,
      ") does not divide numerics.tensor_chunks (", chunks,
      "): sums over tensor ranks are trees over that many parts; set it to a multiple, "
      "which changes the bits of the run, or use numerics.mode FAST");
  return true;
}

void check_tensor_core_sizes(const RunConfig& config, Problems& problems) {
  const std::vector<CutSize> sizes = tensor_core_sizes(config);
  if (sizes.empty()) {
    return;
  }
  const std::int64_t chunks = config.numerics().tensor_chunks();
  for (const auto& [name, size] : sizes) {
    problems.require(size % (chunks * kTensorCoreMultiple) == 0, name, " (", size,
                     ") is not a multiple of numerics.tensor_chunks (", chunks, ") x ",
                     kTensorCoreMultiple,
                     ", as numerics.mode EXACT needs it for products of bfloat16: choose another "
                     "size or fewer chunks, or set optimizer.parameter_dtype FLOAT32 or "
                     "numerics.mode FAST");
  }
  // Latents lie in rows of both.
  const Model& model = config.model();
  problems.require(model.kv_lora_rank() % kTensorCoreMultiple != 0 ||
                       model.qk_rope_head_dim() % kTensorCoreMultiple == 0,
                   "model.qk_rope_head_dim (", model.qk_rope_head_dim(),
                   ") is not a multiple of 8 beside a model.kv_lora_rank (", model.kv_lora_rank(),
                   ") that is one, as numerics.mode EXACT needs it for products of bfloat16: set "
                   "optimizer.parameter_dtype FLOAT32 or numerics.mode FAST");
}

}  // namespace

void check_numerics(const RunConfig& config, Problems& problems) {
  const Numerics& numerics = config.numerics();
  if (numerics.mode() == Numerics::FAST) {
    return;
  }
  problems.require(numerics.deterministic(),
                   "numerics.deterministic false needs numerics.mode FAST: EXACT is the same bits "
                   "always");
  check_unit(config, problems);
  if (check_chunks(config, problems)) {
    check_tensor_core_sizes(config, problems);
  }
  problems.require(
      numerics.gradient_fraction_bits() >= 32 && numerics.gradient_fraction_bits() <= 60,
      "numerics.gradient_fraction_bits (", numerics.gradient_fraction_bits(),
      ") is not in [32, 60]");
  problems.require(config.optimizer().gradient_dtype() == FLOAT32, "optimizer.gradient_dtype ",
                   DType_Name(config.optimizer().gradient_dtype()),
                   " needs numerics.mode FAST: EXACT sums gradients as integers");
}

}  // namespace fathom::config
