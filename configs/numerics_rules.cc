#include <bit>
#include <numeric>

#include "configs/rules.h"

namespace fathom::config {
namespace {

constexpr std::int64_t kMaxChunks = 4096;

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

// Which kernel multiplies bfloat16 depends on whether sizes are multiples of 8, so for those that a
// layout may cut it must not depend on the layout.
void check_tensor_core_sizes(const RunConfig& config, Problems& problems) {
  if (config.run().device() == Run::CPU || config.optimizer().parameter_dtype() != BFLOAT16) {
    return;
  }
  constexpr std::int64_t kMultiple = 8;
  const Model& model = config.model();
  const std::int64_t chunks = config.numerics().tensor_chunks();
  const auto check = [&](std::string_view name, std::int64_t size) {
    problems.require(size % (chunks * kMultiple) == 0, name, " (", size,
                     ") is not a multiple of numerics.tensor_chunks (", chunks, ") x ", kMultiple,
                     ", as numerics.mode EXACT needs it for products of bfloat16: choose another "
                     "size or fewer chunks, or set optimizer.parameter_dtype FLOAT32 or "
                     "numerics.mode FAST");
  };
  const auto of_heads = [&](std::int64_t size) {
    return product_of_sizes(model.num_attention_heads(), size);
  };
  check("model.vocab_size", model.vocab_size());
  check("model.num_attention_heads x (model.qk_nope_head_dim + model.qk_rope_head_dim)",
        of_heads(model.qk_nope_head_dim() + model.qk_rope_head_dim()));
  check("model.num_attention_heads x (model.qk_nope_head_dim + model.v_head_dim)",
        of_heads(model.qk_nope_head_dim() + model.v_head_dim()));
  check("model.num_attention_heads x model.v_head_dim", of_heads(model.v_head_dim()));
  if (model.num_dense_layers() > 0 || !model.has_moe()) {
    check("model.intermediate_size", model.intermediate_size());
  }
  check("model.moe.num_shared_experts x model.moe.intermediate_size",
        product_of_sizes(model.moe().num_shared_experts(), model.moe().intermediate_size()));
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
