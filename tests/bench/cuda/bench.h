#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/graph.h"
#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/attention.h"
#include "kernels/gradient_sum.h"

namespace fathom::bench {

// One mixture-of-experts layer of DeepSeek-V2-Lite (arXiv:2405.04434, appendix B) on 4096 tokens,
// its head, and an optimizer's share of the weights.
struct Sizes {
  std::int64_t tokens = 4096;
  std::int64_t hidden = 2048;
  std::int64_t heads = 16;
  std::int64_t nope = 128;
  std::int64_t rope = 64;
  std::int64_t value = 128;
  std::int64_t latent = 512;
  std::int64_t experts = 64;
  std::int64_t top_k = 6;
  std::int64_t expert_hidden = 1408;
  std::int64_t shared_hidden = 2816;
  std::int64_t dense_hidden = 10944;
  std::int64_t vocabulary = 129280;
  std::int64_t parameters = 100'000'000;
  std::int64_t sequences = 256;  // that are decoded at once
  std::int64_t sequence_tokens = 320;
  std::int64_t rank_experts = 8;  // of one rank among several, with as many tokens as they get
  std::int64_t rank_expert_tokens = 1024;
  std::int64_t unit_tokens = 512;                     // of a contribution, in EXACT
  std::int64_t ceiling_product = 8192;                // edge of the matrices
  std::int64_t ceiling_copy = std::int64_t{1} << 30;  // bytes

  std::int64_t slots() const { return tokens * top_k; }
};
// The same operations where a sanitizer or the emulated device still gets through: every tile is
// partly filled.
Sizes small_sizes();

kernels::AttentionShape attention_shape(const Sizes& sizes);

// What an operation cannot do without: multiplications and additions, and bytes of operands that
// are read or written once each.
struct Work {
  double flops = 0;
  double bytes = 0;
};

// Times operations and prints a line of JSON for each.
class Bench {
 public:
  // `order`: kFixed for what EXACT does, on the sums that it has.
  Bench(int num_repeats, std::string only, SumOrder order);
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  Stream& stream() { return stream_; }
  // Normal numbers times `scale`, float32 or bfloat16.
  Tensor random(const Shape& shape, DType dtype, float scale = 1.0F);
  Tensor bfloat16(const Shape& shape) { return random(shape, DType::kBFloat16); }
  Tensor float32(const Shape& shape) { return random(shape, DType::kFloat32); }
  Tensor integers(std::int64_t count, const std::function<std::int64_t(std::int64_t)>& value);
  Tensor offsets(const std::vector<std::int64_t>& values);  // int64
  // What a weight's gradient is added to: float32, or in EXACT contributions of `unit_rows` rows.
  kernels::GradientSum gradient(const Shape& shape, std::int64_t unit_rows);

  bool is_exact() const { return stream_.sum_order() == SumOrder::kFixed; }
  // Of dimensions that tensor parallelism may cut.
  int num_chunks() const { return is_exact() ? 4 : 1; }
  double gradient_bytes() const { return is_exact() ? 8 : 4; }

  // Measures what the card can do at most, and prints it: a copy, and a product of random bfloat16
  // matrices. Floors follow from it.
  void measure_ceilings(const Sizes& sizes);

  // Median time of `body`, recorded in a CUDA graph where it can be, by CUDA events, each run after
  // the second-level cache was filled with something else. `body` must leave its inputs fit for
  // another run. An error of one operation is printed in its line, and the others go on.
  void time(const std::string& name, const std::string& shape, const Work& work,
            const std::function<void()>& body);
  bool failed() const { return failed_; }

 private:
  std::shared_ptr<Graph> recorded(const std::function<void()>& body);
  double median_microseconds(const std::function<void()>& body);
  double floor_microseconds(const Work& work) const;

  Stream stream_;
  double flops_a_second_ = 0;
  double bytes_a_second_ = 0;
  int num_repeats_;
  std::string only_;
  Tensor flush_;
  bool failed_ = false;
};

// Each times one group of operations.
void time_products(Bench& bench, const Sizes& sizes);
void time_experts(Bench& bench, const Sizes& sizes);
void time_attention(Bench& bench, const Sizes& sizes);
void time_decoding(Bench& bench, const Sizes& sizes);
void time_rows(Bench& bench, const Sizes& sizes);
void time_routing(Bench& bench, const Sizes& sizes);
void time_head(Bench& bench, const Sizes& sizes);
void time_optimizer(Bench& bench, const Sizes& sizes);

}  // namespace fathom::bench
