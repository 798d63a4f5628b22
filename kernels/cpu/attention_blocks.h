#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "kernels/attention.h"
#include "kernels/cpu/tile.h"

// What the forward and the backward of attention share: blocks of 64 tokens of one head of one
// segment.
namespace fathom::kernels::cpu {

inline constexpr std::int64_t kBlock = 64;

// Tokens [first, first + size) of an isolated sequence.
struct Segment {
  std::int64_t first = 0;
  std::int64_t size = 0;

  std::int64_t num_blocks() const { return (size + kBlock - 1) / kBlock; }
  int block_rows(std::int64_t block) const {
    return static_cast<int>(std::min<std::int64_t>(kBlock, size - block * kBlock));
  }
};

// Throws InternalError unless the segments are ascending and cover the tokens.
std::vector<Segment> checked_segments(const Tensor& segments, std::int64_t num_tokens);
std::int64_t longest_of(const std::vector<Segment>& segments);

// Sizes and strides, in floats; a padded size is the next multiple of 16.
struct AttentionLayout {
  AttentionLayout(const AttentionShape& shape, std::int64_t row_size_of_latent);

  std::int64_t num_heads;
  std::int64_t nope_size;
  std::int64_t rope_size;
  std::int64_t rope_column;
  std::int64_t key_size;  // nope + rope
  std::int64_t value_size;
  std::int64_t padded_key;
  std::int64_t padded_value;
  std::int64_t q_stride;
  std::int64_t kv_stride;
  std::int64_t latent_stride;
  std::int64_t out_stride;
  float scale;
};

// Where one head's rows begin, of a token on.
struct HeadRows {
  HeadRows(const AttentionLayout& layout, std::int64_t token, std::int64_t head);

  std::int64_t q;      // element of q, dq
  std::int64_t nope;   // of kv, dkv
  std::int64_t value;  // of kv, dkv
  std::int64_t rope;   // of latent
  std::int64_t out;    // of out, dout
  std::int64_t lse;
};

// Memory of one thread, handed out piece by piece.
class Scratch {
 public:
  Scratch(std::int64_t num_floats, Stream& stream)
      : storage_(Tensor::empty({num_floats}, DType::kFloat32, stream)) {}
  // Aligned to 64 bytes, uninitialized. `num_floats` is a multiple of 16.
  float* take(std::int64_t num_floats) {
    float* const piece = storage_.mutable_data<float>() + used_;
    used_ += num_floats;
    FATHOM_CHECK(used_ <= storage_.numel(), "attention scratch: ", used_, " of ", storage_.numel(),
                 " floats");
    return piece;
  }

 private:
  Tensor storage_;
  std::int64_t used_ = 0;
};

}  // namespace fathom::kernels::cpu
