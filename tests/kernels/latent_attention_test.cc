#include "kernels/latent_attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"
#include "kernels/packed_matmul.h"
#include "tests/kernels/product_reference.h"
#include "tests/support/catch.h"

namespace fathom::kernels {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Tensor integers(const std::vector<std::int32_t>& values, const Shape& shape, Stream& stream) {
  Tensor tensor = Tensor::empty(shape, DType::kInt32, stream);
  std::copy(values.begin(), values.end(), tensor.mutable_data<std::int32_t>());
  return tensor;
}

// A sequence of random queries and latents, and what attention over expanded keys and values makes
// of them in float64.
struct Sequence {
  Sequence(const AttentionShape& attention, std::int64_t size, Stream& given_stream)
      : shape(attention),
        num_tokens(size),
        stream(given_stream),
        q(random_tensor({size, attention.num_heads * query_size()}, "q", stream)),
        latent(random_tensor({size, attention.rope_column + attention.rope_size + 1}, "c", stream)),
        kv_b(random_tensor({attention.num_heads * head_rows(), attention.rope_column}, "w",
                           stream)) {
    for (float& w : kv_b.mutable_values<float>()) {
      w *= 0.3F;
    }
  }

  std::int64_t query_size() const { return shape.nope_size + shape.rope_size; }
  std::int64_t head_rows() const { return shape.nope_size + shape.value_size; }

  // Row `row` of head's part of W_kvb, times the latent of a token.
  double expanded(std::int64_t head, std::int64_t row, std::int64_t token) const {
    double sum = 0.0;
    for (std::int64_t k = 0; k < shape.rope_column; ++k) {
      sum += double{kv_b.data<float>()[(head * head_rows() + row) * shape.rope_column + k]} *
             double{latent.data<float>()[token * latent.size(1) + k]};
    }
    return sum;
  }

  std::vector<double> outputs(std::int64_t head) const {
    std::vector<std::vector<double>> rows;  // of all tokens: k_nope, v
    for (std::int64_t token = 0; token < num_tokens; ++token) {
      rows.emplace_back();
      for (std::int64_t row = 0; row < head_rows(); ++row) {
        rows.back().push_back(expanded(head, row, token));
      }
    }
    std::vector<double> out;
    for (std::int64_t i = 0; i < num_tokens; ++i) {
      const float* const query = q.data<float>() + i * q.size(1) + head * query_size();
      std::vector<double> sums(static_cast<std::size_t>(shape.value_size), 0.0);
      double total = 0.0;
      for (std::int64_t j = 0; j <= i; ++j) {
        const std::vector<double>& key = rows[static_cast<std::size_t>(j)];
        double score = 0.0;
        for (std::int64_t k = 0; k < shape.nope_size; ++k) {
          score += double{query[k]} * key[static_cast<std::size_t>(k)];
        }
        for (std::int64_t k = 0; k < shape.rope_size; ++k) {
          score += double{query[shape.nope_size + k]} *
                   double{latent.data<float>()[j * latent.size(1) + shape.rope_column + k]};
        }
        const double weight = std::exp(double{shape.scale} * score);
        total += weight;
        for (std::size_t k = 0; k < sums.size(); ++k) {
          sums[k] += weight * key[static_cast<std::size_t>(shape.nope_size) + k];
        }
      }
      for (const double sum : sums) {
        out.push_back(sum / total);
      }
    }
    return out;
  }

  AttentionShape shape;
  std::int64_t num_tokens;
  Stream& stream;
  Tensor q, latent, kv_b;
};

// The sequence in pages that do not lie in order, all else NaN; a row of nobody at each end.
class Paged {
 public:
  explicit Paged(const Sequence& given)
      : given_(given),
        cache_(Tensor::empty(latent_pages_shape(given.shape, 12), DType::kFloat32, given.stream)),
        key_(Tensor::empty(packed_shape(Shape{given.shape.num_heads, given.shape.rope_column,
                                              given.shape.nope_size}),
                           DType::kFloat32, given.stream)),
        value_(Tensor::empty(packed_shape(Shape{given.shape.num_heads, given.shape.value_size,
                                                given.shape.rope_column}),
                             DType::kFloat32, given.stream)) {
    std::ranges::fill(cache_.mutable_values<float>(), kNan);
    pack_absorbed(given.shape, given.kv_b, key_, value_, given.stream);
  }

  // Tokens [begin, end) -> their outputs [end - begin, heads * value].
  std::vector<float> feed(std::int32_t begin, std::int32_t end) {
    const AttentionShape& shape = given_.shape;
    Stream& stream = given_.stream;
    const std::int32_t count = end - begin;
    const std::int32_t num_pages = (end + 63) / 64;
    const Tensor spans = integers({1, count, end, 0}, {1, 4}, stream);
    const Tensor pages =
        integers({pages_.begin(), pages_.begin() + num_pages}, {num_pages}, stream);
    const Tensor copies = integers(copies_, {std::ssize(copies_) / 2, 2}, stream);
    copies_.clear();
    const PagedSequences sequences{spans, pages, copies};
    keep_latents_in_pages(shape, rows(given_.latent, begin, count), sequences, cache_, stream);
    const Tensor q = rows(given_.q, begin, count);
    const std::int64_t heads = shape.num_heads;
    Tensor absorbed = random_tensor({q.size(0), heads * shape.rope_column}, "old", stream);
    Tensor latents = random_tensor(absorbed.shape(), "old", stream);
    Tensor out = random_tensor({q.size(0), heads * shape.value_size}, "old", stream);
    packed_head_matmul_forward(q, key_, absorbed, stream);
    latent_attention_forward(shape, {q, absorbed}, sequences, cache_, latents, stream);
    packed_head_matmul_forward(latents, value_, out, stream);
    const auto values = out.values<float>();
    CHECK(std::ranges::all_of(values.first(static_cast<std::size_t>(out.size(1))),
                              [](float x) { return x == 0.0F; }));
    return {values.begin() + out.size(1), values.end() - out.size(1)};
  }

  void move_page(std::size_t index, std::int32_t page) {
    copies_ = {pages_[index], page};
    pages_[index] = page;
  }

 private:
  Tensor rows(const Tensor& from, std::int64_t begin, std::int64_t count) const {
    const std::int64_t width = from.size(1);
    Tensor to = random_tensor({count + 2, width}, "nobody's", given_.stream);
    std::copy_n(from.data<float>() + begin * width, count * width,
                to.mutable_data<float>() + width);
    return to;
  }

  const Sequence& given_;
  Tensor cache_, key_, value_;
  std::vector<std::int32_t> pages_{7, 2, 9, 0};
  std::vector<std::int32_t> copies_;
};

void check_outputs(const Sequence& sequence, const std::vector<float>& found) {
  const auto heads = static_cast<std::size_t>(sequence.shape.num_heads);
  const auto size = static_cast<std::size_t>(sequence.shape.value_size);
  REQUIRE(found.size() == static_cast<std::size_t>(sequence.num_tokens) * heads * size);
  double largest = 0.0;
  for (std::size_t head = 0; head < heads; ++head) {
    const std::vector<double> want = sequence.outputs(static_cast<std::int64_t>(head));
    for (std::size_t i = 0; i < want.size(); ++i) {
      const double difference =
          std::abs(double{found[(i / size * heads + head) * size + i % size]} - want[i]);
      REQUIRE_FALSE(std::isnan(difference));
      largest = std::max(largest, difference);
    }
  }
  CHECK(largest < 1e-5);  // of outputs of about 1
}

constexpr AttentionShape kShape{.num_heads = 3,
                                .nope_size = 13,
                                .rope_size = 6,
                                .value_size = 10,
                                .rope_column = 21,
                                .scale = 0.3F};

}  // namespace

TEST_CASE("Attention to latents is attention to the keys and values that follow from them") {
  const auto num_threads = GENERATE(1, 3);
  const auto num_heads = GENERATE(1, 3, 8, 70);
  Stream stream({}, num_threads);
  AttentionShape shape = kShape;
  shape.num_heads = num_heads;
  INFO(num_heads << " heads, " << num_threads << " threads");
  const Sequence sequence(shape, 150, stream);
  Paged paged(sequence);
  std::vector<float> found;
  for (const auto& [begin, end] : std::vector<std::pair<std::int32_t, std::int32_t>>{
           {0, 50}, {50, 70}, {70, 71}, {71, 72}, {72, 127}, {127, 128}, {128, 129}, {129, 150}}) {
    std::ranges::copy(paged.feed(begin, end), std::back_inserter(found));
  }
  check_outputs(sequence, found);
  // A row has the same bits however the tokens come.
  CHECK(Paged(sequence).feed(0, 150) == found);
}

TEST_CASE("A copied page of latents stands for the one that it was copied from") {
  Stream stream;
  const Sequence sequence(kShape, 150, stream);
  Paged paged(sequence);
  std::vector<float> found = paged.feed(0, 100);
  paged.move_page(1, 11);
  std::ranges::copy(paged.feed(100, 150), std::back_inserter(found));
  check_outputs(sequence, found);
}

TEST_CASE("A NaN in a latent does not reach earlier tokens") {
  Stream stream;
  Sequence sequence(kShape, 20, stream);
  const std::vector<float> want = Paged(sequence).feed(0, 20);
  for (std::int64_t i = 18 * sequence.latent.size(1); i < sequence.latent.numel(); ++i) {
    sequence.latent.mutable_data<float>()[i] = kNan;
  }
  const std::vector<float> found = Paged(sequence).feed(0, 20);
  const auto width = std::ptrdiff_t{kShape.num_heads} * kShape.value_size;
  CHECK(std::equal(found.begin(), found.begin() + 18 * width, want.begin()));
  CHECK(std::isnan(found.back()));
}

TEST_CASE("At V3's shape a token's latent takes a 57th of its keys and values") {
  constexpr AttentionShape kV3{
      .num_heads = 128, .nope_size = 128, .rope_size = 64, .value_size = 128, .rope_column = 512};
  CHECK(latent_pages_shape(kV3, 1)[1] == 64 * (512 + 64));
  CHECK(attention_pages_shape(kV3, 1)[1] == 57 * latent_pages_shape(kV3, 1)[1]);
}

TEST_CASE("Attention to latents refuses pages beyond the cache") {
  Stream stream;
  const Sequence sequence(kShape, 5, stream);
  Tensor cache = Tensor::zeros(latent_pages_shape(kShape, 3), DType::kFloat32, stream);
  const Tensor copies = integers({}, {0, 2}, stream);
  const Tensor spans = integers({0, 5, 5, 0}, {1, 4}, stream);
  const Tensor pages = integers({3}, {1}, stream);
  CHECK_THROWS_AS(
      keep_latents_in_pages(kShape, sequence.latent, {spans, pages, copies}, cache, stream),
      InternalError);
}

}  // namespace fathom::kernels
