#include "kernels/paged_attention.h"

#include "kernels/latent_attention.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

// One pass over sequences: how many tokens each has, and how many of them are new.
struct Sequence {
  std::int32_t num_tokens;
  std::int32_t num_new;
};

// Their pages lie scattered in the cache; rows before, between and behind the spans are nobody's.
struct Pass {
  Pass(const std::vector<Sequence>& sequences, const std::vector<std::int32_t>& page_copies,
       Stream& stream) {
    std::vector<std::int32_t> span_numbers;
    std::vector<std::int32_t> page_numbers;
    std::int32_t row = 1;
    for (const Sequence& sequence : sequences) {
      span_numbers.insert(span_numbers.end(), {row, sequence.num_new, sequence.num_tokens,
                                               static_cast<std::int32_t>(page_numbers.size())});
      row += sequence.num_new + 1;
      for (std::int32_t first = 0; first < sequence.num_tokens; first += kPageTokens) {
        // Primes: no page twice.
        page_numbers.push_back(
            static_cast<std::int32_t>((page_numbers.size() * 7 + 3) % kNumPages));
      }
    }
    num_rows = row;
    spans = tensor_of(span_numbers, {static_cast<std::int64_t>(sequences.size()), 4}, stream);
    pages = tensor_of(page_numbers, {static_cast<std::int64_t>(page_numbers.size())}, stream);
    copies = tensor_of(page_copies, {static_cast<std::int64_t>(page_copies.size() / 2), 2}, stream);
  }
  static constexpr std::int64_t kNumPages = 23;
  std::int64_t num_rows = 0;
  Tensor spans, pages, copies;
};

struct PassOnCuda {
  PassOnCuda(const Pass& pass, Devices& devices)
      : spans(devices.to_cuda(pass.spans)),
        pages(devices.to_cuda(pass.pages)),
        copies(devices.to_cuda(pass.copies)) {}
  PagedSequences sequences() const { return {spans, pages, copies}; }
  Tensor spans, pages, copies;
};

// Prompts and single tokens side by side: all of them new first, then one more of some, then parts,
// after a page has been copied twice, which nobody sees.
std::vector<Pass> passes(Stream& stream) {
  std::vector<Pass> result;
  result.emplace_back(std::vector<Sequence>{{70, 70}, {1, 1}, {130, 130}}, std::vector<int>{},
                      stream);
  result.emplace_back(std::vector<Sequence>{{71, 1}, {2, 1}, {131, 1}},
                      std::vector<int>{22, 20, 20, 21}, stream);
  result.emplace_back(std::vector<Sequence>{{90, 19}, {3, 1}, {150, 19}}, std::vector<int>{},
                      stream);
  return result;
}

constexpr AttentionShape kEven{.num_heads = 3,
                               .nope_size = 32,
                               .rope_size = 16,
                               .value_size = 40,
                               .rope_column = 48,
                               .scale = 0.14F};
constexpr AttentionShape kOdd{.num_heads = 18,
                              .nope_size = 5,
                              .rope_size = 6,
                              .value_size = 7,
                              .rope_column = 9,
                              .scale = 0.3F};
constexpr AttentionShape kDeepSeek{.num_heads = 2,
                                   .nope_size = 128,
                                   .rope_size = 64,
                                   .value_size = 128,
                                   .rope_column = 512,
                                   .scale = 0.07F};

double limit_of(DType dtype) { return dtype == DType::kBFloat16 ? 1.0 / 80 : 4e-6; }

}  // namespace

TEST_CASE("Attention to pages on CUDA is that of the CPU") {
  const AttentionShape shape = GENERATE(kEven, kOdd, kDeepSeek);
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const SumOrder order = GENERATE(SumOrder::kFastest, SumOrder::kFixed);
  Devices devices{Stream(), Stream(Device{DeviceType::kCuda, 0}, 1, order)};
  const auto make = [&](const Shape& tensor_shape, const char* name) {
    return devices.rounded(random_tensor(tensor_shape, name, devices.cpu), dtype);
  };
  const Shape cache_shape = attention_pages_shape(shape, Pass::kNumPages);
  Tensor cache = Tensor::zeros(cache_shape, DType::kFloat32, devices.cpu);
  Tensor cache_there = devices.empty(cache_shape, dtype);  // NaN
  for (const Pass& pass : passes(devices.cpu)) {
    const Tensor q =
        make({pass.num_rows, shape.num_heads * (shape.nope_size + shape.rope_size)}, "q");
    const Tensor kv =
        make({pass.num_rows, shape.num_heads * (shape.nope_size + shape.value_size)}, "kv");
    const Tensor latent = make({pass.num_rows, shape.rope_column + shape.rope_size}, "latent");
    Tensor want = Tensor::empty({pass.num_rows, shape.num_heads * shape.value_size},
                                DType::kFloat32, devices.cpu);
    const PagedSequences here{pass.spans, pass.pages, pass.copies};
    keep_in_pages(shape, kv, latent, here, cache, devices.cpu);
    paged_attention_forward(shape, q, here, cache, want, devices.cpu);

    const PassOnCuda on_cuda(pass, devices);
    Tensor found = devices.empty(want.shape(), dtype);
    keep_in_pages(shape, devices.to_cuda(kv, dtype), devices.to_cuda(latent, dtype),
                  on_cuda.sequences(), cache_there, devices.cuda);
    paged_attention_forward(shape, devices.to_cuda(q, dtype), on_cuda.sequences(), cache_there,
                            found, devices.cuda);
    CHECK(largest_error(found, want, devices) < limit_of(dtype));
  }
}

TEST_CASE("Attention to latents on CUDA is that of the CPU") {
  const AttentionShape shape = GENERATE(kEven, kOdd, kDeepSeek);
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  Devices devices;
  const auto make = [&](const Shape& tensor_shape, const char* name) {
    return devices.rounded(random_tensor(tensor_shape, name, devices.cpu), dtype);
  };
  const Shape cache_shape = latent_pages_shape(shape, Pass::kNumPages);
  Tensor cache = Tensor::zeros(cache_shape, DType::kFloat32, devices.cpu);
  Tensor cache_there = devices.empty(cache_shape, dtype);
  for (const Pass& pass : passes(devices.cpu)) {
    const Tensor q =
        make({pass.num_rows, shape.num_heads * (shape.nope_size + shape.rope_size)}, "q");
    const Tensor latent = make({pass.num_rows, shape.rope_column + shape.rope_size}, "latent");
    const Tensor absorbed =
        make({pass.num_rows, std::int64_t{shape.num_heads} * shape.rope_column}, "absorbed");
    Tensor want = Tensor::empty(absorbed.shape(), DType::kFloat32, devices.cpu);
    const PagedSequences here{pass.spans, pass.pages, pass.copies};
    keep_latents_in_pages(shape, latent, here, cache, devices.cpu);
    latent_attention_forward(shape, {q, absorbed}, here, cache, want, devices.cpu);

    const PassOnCuda on_cuda(pass, devices);
    Tensor found = devices.empty(want.shape(), dtype);
    keep_latents_in_pages(shape, devices.to_cuda(latent, dtype), on_cuda.sequences(), cache_there,
                          devices.cuda);
    latent_attention_forward(shape, {devices.to_cuda(q, dtype), devices.to_cuda(absorbed, dtype)},
                             on_cuda.sequences(), cache_there, found, devices.cuda);
    CHECK(largest_error(found, want, devices) < limit_of(dtype));
  }
}

TEST_CASE("A key that is no number shows in what attends to it, however its keys are split") {
  const AttentionShape shape = kEven;
  const SumOrder order = GENERATE(SumOrder::kFastest, SumOrder::kFixed);
  Devices devices{Stream(), Stream(Device{DeviceType::kCuda, 0}, 1, order)};
  const Pass pass({{131, 1}}, {}, devices.cpu);  // three pages
  Tensor cache = random_tensor(attention_pages_shape(shape, Pass::kNumPages), "cache", devices.cpu);
  const std::int64_t page_size = cache.numel() / Pass::kNumPages;
  const std::int32_t page = pass.pages.data<std::int32_t>()[1];
  std::fill_n(cache.mutable_data<float>() + page * page_size, page_size,
              std::numeric_limits<float>::quiet_NaN());
  const PassOnCuda on_cuda(pass, devices);
  const Tensor q = devices.to_cuda(random_tensor(
      {pass.num_rows, shape.num_heads * (shape.nope_size + shape.rope_size)}, "q", devices.cpu));
  Tensor out = devices.empty({pass.num_rows, shape.num_heads * shape.value_size}, DType::kFloat32);
  paged_attention_forward(shape, q, on_cuda.sequences(), devices.to_cuda(cache), out, devices.cuda);
  const std::vector<float> found = vector_of(devices.to_cpu(out.narrow(1, 2)));  // the new token's
  CHECK(std::ranges::all_of(found, [](float number) { return std::isnan(number); }));
}

TEST_CASE("Pages on CUDA: copies, tokens that others leave alone, pages that do not exist") {
  Devices devices;
  const AttentionShape shape = kEven;
  const Shape cache_shape = latent_pages_shape(shape, 4);
  const Tensor before = random_tensor(cache_shape, "cache", devices.cpu);
  Tensor cache = devices.to_cuda(before);
  const Tensor latent =
      random_tensor({3, shape.rope_column + shape.rope_size}, "latent", devices.cpu);
  const auto integers = [&](const std::vector<std::int32_t>& numbers, const Shape& tensor_shape) {
    return devices.to_cuda(tensor_of(numbers, tensor_shape, devices.cpu));
  };
  // Token 1 of a sequence in page 2; one in page 9 and one with more entries than there are.
  const Tensor spans = integers({0, 1, 2, 0, 1, 1, 1, 1, 2, 1, 200, 1}, {3, 4});
  const Tensor pages = integers({2, 9}, {2});
  const Tensor copies = integers({0, 1, 1, 3, 7, 0, 0, -1}, {4, 2});
  keep_latents_in_pages(shape, devices.to_cuda(latent), {spans, pages, copies}, cache,
                        devices.cuda);
  const std::vector<float> found = vector_of(devices.to_cpu(cache));
  std::vector<float> want = vector_of(before);
  const std::int64_t page = cache_shape[1];
  std::copy_n(want.begin(), page, want.begin() + page);
  std::copy_n(want.begin(), page, want.begin() + 3 * page);
  const std::int64_t rank = shape.rope_column;
  const std::int64_t rope = shape.rope_size;
  std::copy_n(latent.data<float>() + rank, rope, want.begin() + 2 * page + rope);
  std::copy_n(latent.data<float>(), rank, want.begin() + 2 * page + kPageTokens * rope + rank);
  CHECK(found == want);

  Tensor out = devices.empty({3, shape.num_heads * rank}, DType::kFloat32);
  const Tensor q = devices.to_cuda(
      random_tensor({3, shape.num_heads * (shape.nope_size + rope)}, "q", devices.cpu));
  const Tensor absorbed =
      devices.to_cuda(random_tensor({3, shape.num_heads * rank}, "a", devices.cpu));
  latent_attention_forward(shape, {q, absorbed}, {spans, pages, copies}, cache, out, devices.cuda);
  const std::vector<float> rows = vector_of(devices.to_cpu(out));
  CHECK(rows[0] != 0.0F);
  CHECK(std::all_of(rows.begin() + shape.num_heads * rank, rows.end(),
                    [](float number) { return number == 0.0F; }));

  // Rows that are nobody's, and pages beside them.
  const Tensor nobody = Tensor::empty({0, 4}, DType::kInt32, devices.cuda);
  Tensor unwritten = devices.empty({1, shape.num_heads * rank}, DType::kFloat32);
  latent_attention_forward(shape, {q.narrow(0, 1), absorbed.narrow(0, 1)}, {nobody, pages, copies},
                           cache, unwritten, devices.cuda);
  const std::vector<float> none = vector_of(devices.to_cpu(unwritten));
  CHECK(none == std::vector<float>(none.size(), 0.0F));
}

}  // namespace fathom::kernels
