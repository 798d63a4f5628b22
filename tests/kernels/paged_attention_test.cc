#include "kernels/paged_attention.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "core/error.h"
#include "tests/kernels/product_reference.h"
#include "tests/support/catch.h"

namespace fathom::kernels {
namespace {

Tensor integers(const std::vector<std::int32_t>& values, const Shape& shape, Stream& stream) {
  Tensor tensor = Tensor::empty(shape, DType::kInt32, stream);
  std::copy(values.begin(), values.end(), tensor.mutable_data<std::int32_t>());
  return tensor;
}

// Two sequences in one row after the other, and what attention_forward makes of them.
struct Whole {
  Whole(const AttentionShape& attention, const std::array<std::int32_t, 3>& segment_starts,
        Stream& given_stream)
      : shape(attention),
        starts(segment_starts),
        stream(given_stream),
        q(random(shape.num_heads * (shape.nope_size + shape.rope_size), "q")),
        kv(random(shape.num_heads * (shape.nope_size + shape.value_size), "kv")),
        latent(random(shape.rope_column + shape.rope_size + 1, "latent")),
        out(random(shape.num_heads * shape.value_size, "old")) {
    Tensor lse = random(shape.num_heads, "old");
    const Tensor segments = integers({starts.begin(), starts.end()}, {3}, stream);
    attention_forward(shape, {q, kv, latent, segments}, out, lse, stream);
  }
  Tensor random(std::int64_t width, const char* name) const {
    return random_tensor({starts[2], width}, name, stream);
  }

  AttentionShape shape;
  std::array<std::int32_t, 3> starts;
  Stream& stream;
  Tensor q, kv, latent, out;
};

// The sequences in pages that do not lie in their order, all else NaN.
class Paged {
 public:
  explicit Paged(const Whole& given)
      : whole_(given),
        cache_(
            Tensor::empty(attention_pages_shape(given.shape, 12), DType::kFloat32, given.stream)) {
    std::fill_n(cache_.mutable_data<float>(), cache_.numel(),
                std::numeric_limits<float>::quiet_NaN());
  }

  // Tokens [begin, end) of each of the two sequences at once, the second sequence first -> whether
  // they have the bits of the whole forward.
  bool takes(const std::array<std::int32_t, 2>& begin, const std::array<std::int32_t, 2>& end) {
    std::vector<std::int32_t> rows;  // of the whole
    std::vector<std::int32_t> spans;
    std::vector<std::int32_t> pages;
    for (const std::size_t s : {1U, 0U}) {
      spans.insert(spans.end(), {static_cast<std::int32_t>(rows.size()) + 1, end[s] - begin[s],
                                 end[s], static_cast<std::int32_t>(pages.size())});
      pages.insert(pages.end(), pages_[s].begin(), pages_[s].begin() + (end[s] + 63) / 64);
      for (std::int32_t i = begin[s]; i < end[s]; ++i) {
        rows.push_back(whole_.starts[s] + i);
      }
    }
    const Tensor span_tensor = integers(spans, {2, 4}, whole_.stream);
    const Tensor page_tensor = integers(pages, {std::ssize(pages)}, whole_.stream);
    const Tensor copies = integers(copies_, {std::ssize(copies_) / 2, 2}, whole_.stream);
    copies_.clear();
    const PagedSequences sequences{span_tensor, page_tensor, copies};
    keep_in_pages(whole_.shape, pick(whole_.kv, rows), pick(whole_.latent, rows), sequences, cache_,
                  whole_.stream);
    const Tensor q = pick(whole_.q, rows);
    Tensor out = random_tensor({q.size(0), whole_.out.size(1)}, "old", whole_.stream);
    paged_attention_forward(whole_.shape, q, sequences, cache_, out, whole_.stream);
    const Tensor want = pick(whole_.out, rows);
    const std::int64_t width = out.size(1);
    const auto* const first = out.data<float>();
    return std::equal(first + width, first + out.numel() - width, want.data<float>() + width) &&
           std::all_of(first, first + width, [](float x) { return x == 0.0F; });
  }

  // The first sequence's page `index` moves to another one at the next step.
  void move_page(std::size_t index, std::int32_t page) {
    copies_ = {pages_[0][index], page};
    pages_[0][index] = page;
  }

 private:
  // Those rows, and one of nobody at each end.
  Tensor pick(const Tensor& from, const std::vector<std::int32_t>& rows) const {
    const std::int64_t width = from.size(1);
    Tensor to = random_tensor({std::ssize(rows) + 2, width}, "nobody's", whole_.stream);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::copy_n(from.data<float>() + rows[i] * width, width,
                  to.mutable_data<float>() + static_cast<std::int64_t>(i + 1) * width);
    }
    return to;
  }

  const Whole& whole_;
  Tensor cache_;
  std::array<std::vector<std::int32_t>, 2> pages_{{{7, 2, 9, 0}, {3, 8, 1}}};
  std::vector<std::int32_t> copies_;
};

constexpr AttentionShape kShape{.num_heads = 3,
                                .nope_size = 13,
                                .rope_size = 6,
                                .value_size = 10,
                                .rope_column = 5,
                                .scale = 0.3F};

TEST_CASE("Attention over pages has the bits of the whole forward") {
  const auto num_threads = GENERATE(1, 3);
  Stream stream({}, num_threads);
  const Whole whole(kShape, {0, 200, 330}, stream);
  Paged paged(whole);
  REQUIRE(paged.takes({0, 0}, {70, 1}));
  for (std::int32_t i = 0; i < 70; ++i) {  // a token at a time, at different positions
    REQUIRE(paged.takes({i + 70, i + 1}, {i + 71, i + 2}));
  }
  CHECK(paged.takes({140, 71}, {200, 130}));
  CHECK(Paged(whole).takes({0, 0}, {200, 130}));
}

TEST_CASE("A copied page stands for the one that it was copied from") {
  Stream stream;
  const Whole whole(kShape, {0, 200, 330}, stream);
  Paged paged(whole);
  REQUIRE(paged.takes({0, 0}, {100, 5}));
  paged.move_page(1, 11);
  CHECK(paged.takes({100, 5}, {101, 6}));
  CHECK(paged.takes({101, 6}, {200, 130}));
}

TEST_CASE("Attention over pages refuses spans and pages that do not fit") {
  Stream stream;
  constexpr AttentionShape kOneHead{
      .num_heads = 1, .nope_size = 4, .rope_size = 2, .value_size = 3};
  const Whole whole(kOneHead, {0, 70, 80}, stream);
  Tensor cache = Tensor::zeros(attention_pages_shape(kOneHead, 3), DType::kFloat32, stream);
  Tensor out = whole.out;
  const auto take = [&](const std::vector<std::int32_t>& span,
                        const std::vector<std::int32_t>& page_ids,
                        const std::vector<std::int32_t>& copy) {
    const Tensor spans = integers(span, {1, 4}, stream);
    const Tensor pages = integers(page_ids, {std::ssize(page_ids)}, stream);
    const Tensor copies = integers(copy, {std::ssize(copy) / 2, 2}, stream);
    const PagedSequences sequences{spans, pages, copies};
    keep_in_pages(kOneHead, whole.kv, whole.latent, sequences, cache, stream);
    paged_attention_forward(kOneHead, whole.q, sequences, cache, out, stream);
  };
  take({0, 70, 70, 0}, {2, 0}, {2, 1});
  for (const std::vector<std::int32_t>& span :
       std::vector<std::vector<std::int32_t>>{{0, 81, 81, 0},
                                              {-1, 2, 20, 0},
                                              {0, 0, 20, 0},
                                              {0, 5, 4, 0},
                                              {0, 5, 129, 0},
                                              {0, 5, 65, 1}}) {
    CHECK_THROWS_AS(take(span, {2, 0}, {}), InternalError);
  }
  CHECK_THROWS_AS(take({0, 5, 5, 0}, {3}, {}), InternalError);
  CHECK_THROWS_AS(take({0, 5, 5, 0}, {-1}, {}), InternalError);
  CHECK_THROWS_AS(take({0, 5, 5, 0}, {0}, {0, 3}), InternalError);
}

}  // namespace
}  // namespace fathom::kernels
