#include <bit>
#include <cstring>

#include "kernels/attention.h"
#include "kernels/paged_attention.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

// Rows of one sequence, float32 on the CPU; numbers are those that the tested dtype has.
struct Sequence {
  Tensor q, kv, latent, dout;
};
struct Result {
  Tensor out, lse, dq, dkv, dlatent;
};

// Columns [begin, end) of all rows, on the CPU.
Tensor columns_of(const Tensor& tensor, std::int64_t begin, std::int64_t end, Stream& stream) {
  Tensor result = Tensor::empty({tensor.size(0), end - begin}, DType::kFloat32, stream);
  for (std::int64_t row = 0; row < tensor.size(0); ++row) {
    std::copy_n(tensor.data<float>() + row * tensor.size(1) + begin, end - begin,
                result.mutable_data<float>() + row * (end - begin));
  }
  return result;
}

Tensor joined_rows(const std::vector<Tensor>& parts, Stream& stream) {
  std::vector<float> numbers;
  std::int64_t num_rows = 0;
  for (const Tensor& part : parts) {
    numbers.insert(numbers.end(), part.values<float>().begin(), part.values<float>().end());
    num_rows += part.size(0);
  }
  return tensor_of(numbers, {num_rows, parts.front().size(1)}, stream);
}

// Attention of a device whose order of sums is fixed.
struct FixedAttention {
  FixedAttention(const AttentionShape& attention, DType activation_dtype)
      : shape(attention), dtype(activation_dtype), dlatent_dtype(activation_dtype) {}

  Sequence sequence(std::int64_t num_tokens, const std::string& name) {
    const auto make = [&](std::int64_t num_columns, const char* part) {
      return devices.rounded(random_tensor({num_tokens, num_columns}, name + part, devices.cpu),
                             dtype);
    };
    return {make(std::int64_t{shape.num_heads} * (shape.nope_size + shape.rope_size), "q"),
            make(std::int64_t{shape.num_heads} * (shape.nope_size + shape.value_size), "kv"),
            make(shape.rope_column + shape.rope_size, "latent"),
            make(std::int64_t{shape.num_heads} * shape.value_size, "dout")};
  }
  // What a rank of heads [first, first + count) is given.
  Sequence heads_of(const Sequence& whole, std::int64_t first, std::int64_t count) {
    const auto part = [&](const Tensor& tensor) {
      const std::int64_t size = tensor.size(1) / shape.num_heads;
      return columns_of(tensor, first * size, (first + count) * size, devices.cpu);
    };
    return {part(whole.q), part(whole.kv), whole.latent, part(whole.dout)};
  }
  Result heads_of(const Result& whole, std::int64_t first, std::int64_t count) {
    const Sequence parts =
        heads_of(Sequence{whole.dq, whole.dkv, whole.dlatent, whole.out}, first, count);
    return {parts.dout, columns_of(whole.lse, first, first + count, devices.cpu), parts.q, parts.kv,
            whole.dlatent};
  }

  // On the device, `misaligned` elements behind an address that suits any access.
  Tensor to_cuda(const Tensor& values) {
    Tensor padded = Tensor::zeros({misaligned + values.numel()}, DType::kFloat32, devices.cpu);
    std::copy_n(values.data<float>(), values.numel(), padded.mutable_data<float>() + misaligned);
    return devices.to_cuda(padded, dtype).view_elements(misaligned, values.shape());
  }
  Tensor empty(const Shape& tensor_shape, DType tensor_dtype) {
    return devices.empty({misaligned + tensor_shape.numel()}, tensor_dtype)
        .view_elements(misaligned, tensor_shape);
  }

  // Segments of one micro-batch -> the results of each.
  std::vector<Result> run(const std::vector<Sequence>& sequences) {
    std::vector<std::int32_t> starts{0};
    std::vector<Tensor> q;
    std::vector<Tensor> kv;
    std::vector<Tensor> latent;
    std::vector<Tensor> dout;
    for (const Sequence& sequence : sequences) {
      starts.push_back(starts.back() + static_cast<std::int32_t>(sequence.q.size(0)));
      q.push_back(sequence.q);
      kv.push_back(sequence.kv);
      latent.push_back(sequence.latent);
      dout.push_back(sequence.dout);
    }
    const Tensor segments =
        devices.to_cuda(tensor_of(starts, {static_cast<std::int64_t>(starts.size())}, devices.cpu));
    const Result all = run_batch({joined_rows(q, devices.cpu), joined_rows(kv, devices.cpu),
                                  joined_rows(latent, devices.cpu), joined_rows(dout, devices.cpu)},
                                 segments);
    std::vector<Result> results;
    for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
      const auto rows = [&](const Tensor& tensor) {
        return tensor.narrow(starts[i], starts[i + 1]);
      };
      results.push_back(
          {rows(all.out), rows(all.lse), rows(all.dq), rows(all.dkv), rows(all.dlatent)});
    }
    return results;
  }
  Result run_batch(const Sequence& batch, const Tensor& segments) {
    const Tensor q = to_cuda(batch.q);
    const Tensor kv = to_cuda(batch.kv);
    const Tensor latent = to_cuda(batch.latent);
    const AttentionInputs inputs{q, kv, latent, segments};
    Result there{empty(batch.dout.shape(), dtype),
                 devices.empty({q.size(0), shape.num_heads}, DType::kFloat32),
                 empty(q.shape(), dtype), empty(kv.shape(), dtype),
                 empty(latent.shape(), dlatent_dtype)};
    attention_forward(shape, inputs, there.out, there.lse, devices.cuda);
    attention_backward(shape, {inputs, there.out, there.lse}, to_cuda(batch.dout), there.dq,
                       there.dkv, there.dlatent, devices.cuda);
    return {devices.to_cpu(there.out), devices.to_cpu(there.lse), devices.to_cpu(there.dq),
            devices.to_cpu(there.dkv),
            columns_of(devices.to_cpu(there.dlatent), shape.rope_column,
                       shape.rope_column + shape.rope_size, devices.cpu)};
  }
  Result run_alone(const Sequence& sequence) { return run({sequence}).front(); }

  AttentionShape shape;
  DType dtype;
  DType dlatent_dtype;
  std::int64_t misaligned = 0;
  Devices devices = devices_of_fixed_order();
};

bool have_same_bits(const Tensor& a, const Tensor& b) { return bytes_of(a) == bytes_of(b); }
// Of all but dlatent, which is a sum over heads.
void check_same_heads(const Result& found, const Result& want) {
  CHECK(have_same_bits(found.out, want.out));
  CHECK(have_same_bits(found.lse, want.lse));
  CHECK(have_same_bits(found.dq, want.dq));
  CHECK(have_same_bits(found.dkv, want.dkv));
}
void check_same_bits(const Result& found, const Result& want) {
  check_same_heads(found, want);
  CHECK(have_same_bits(found.dlatent, want.dlatent));
}

constexpr AttentionShape kSmall{.num_heads = 4,
                                .nope_size = 16,
                                .rope_size = 8,
                                .value_size = 16,
                                .rope_column = 8,
                                .scale = 0.5F};
constexpr AttentionShape kTiny{.num_heads = 2,
                               .nope_size = 8,
                               .rope_size = 8,
                               .value_size = 8,
                               .rope_column = 0,
                               .scale = 0.6F};
constexpr AttentionShape kOdd{.num_heads = 2,
                              .nope_size = 13,
                              .rope_size = 6,
                              .value_size = 21,
                              .rope_column = 3,
                              .scale = 0.5F};
constexpr AttentionShape kWideValues{.num_heads = 1,
                                     .nope_size = 16,
                                     .rope_size = 16,
                                     .value_size = 256,
                                     .rope_column = 0,
                                     .scale = 0.3F};
constexpr AttentionShape kDeepSeek{.num_heads = 2,
                                   .nope_size = 128,
                                   .rope_size = 64,
                                   .value_size = 128,
                                   .rope_column = 16,
                                   .scale = 0.15F};

}  // namespace

TEST_CASE("Attention on CUDA in fixed order: a segment's bits are its own") {
  const AttentionShape shape = GENERATE(kSmall, kTiny, kOdd, kDeepSeek);
  FixedAttention attention(shape, GENERATE(DType::kFloat32, DType::kBFloat16));
  const Sequence a = attention.sequence(shape.nope_size > 100 ? 70 : 150, "a");
  const Sequence b = attention.sequence(37, "b");
  const Sequence c = attention.sequence(1, "c");
  const Result alone = attention.run_alone(a);
  check_same_bits(attention.run({b, a, c}).at(1), alone);
  const std::vector<Result> others = attention.run({c, c, b, a});
  check_same_bits(others.at(3), alone);
  check_same_bits(others.at(2), attention.run_alone(b));
  check_same_bits(others.at(1), attention.run_alone(c));
  attention.misaligned = 1;
  check_same_bits(attention.run({b, a}).at(1), alone);
}

TEST_CASE("Attention on CUDA in fixed order: later tokens leave a row as it is") {
  FixedAttention attention(GENERATE(kSmall, kOdd), GENERATE(DType::kFloat32, DType::kBFloat16));
  const Sequence whole = attention.sequence(140, "whole");
  const Result want = attention.run_alone(whole);
  const std::int64_t num_tokens = GENERATE(1, 63, 64, 65, 130);
  const auto first = [&](const Tensor& tensor) { return tensor.narrow(0, num_tokens); };
  const Result found = attention.run_alone(
      {first(whole.q), first(whole.kv), first(whole.latent), first(whole.dout)});
  CHECK(have_same_bits(found.out, first(want.out)));
  CHECK(have_same_bits(found.lse, first(want.lse)));
  CHECK(have_same_bits(found.dq, first(want.dq)));
}

TEST_CASE("Attention on CUDA in fixed order: a head's bits are its own") {
  FixedAttention attention(kSmall, GENERATE(DType::kFloat32, DType::kBFloat16));
  const Sequence sequence = attention.sequence(75, "sequence");
  const Result whole = attention.run_alone(sequence);
  for (const auto& [first, count] : {std::pair{0, 2}, std::pair{2, 2}, std::pair{3, 1}}) {
    const Sequence part = attention.heads_of(sequence, first, count);
    const Result want = attention.heads_of(whole, first, count);
    FixedAttention rank(kSmall, attention.dtype);
    rank.shape.num_heads = count;
    check_same_heads(rank.run_alone(part), want);
  }
}

TEST_CASE("Attention on CUDA sums the gradient of k_rope over heads in a tree of chunks") {
  const AttentionShape given = GENERATE(kSmall, kOdd);
  AttentionShape shape = given;
  shape.num_heads = 8;
  FixedAttention attention(shape, GENERATE(DType::kFloat32, DType::kBFloat16));
  const Sequence sequence = attention.sequence(40, "sequence");
  // Each head's own, in float32.
  std::vector<std::vector<float>> heads;
  for (int head = 0; head < 8; ++head) {
    FixedAttention single(shape, attention.dtype);
    single.shape.num_heads = 1;
    single.dlatent_dtype = DType::kFloat32;
    heads.push_back(vector_of(single.run_alone(attention.heads_of(sequence, head, 1)).dlatent));
  }
  const auto sum = [](std::vector<float> a, const std::vector<float>& b) {
    std::transform(a.begin(), a.end(), b.begin(), a.begin(), std::plus<>());
    return a;
  };
  const auto ascending = [&](int first, int count) {
    std::vector<float> result(heads[0].size());
    for (int head = first; head < first + count; ++head) {
      result = sum(std::move(result), heads[head]);
    }
    return result;
  };
  const auto check = [&](int num_chunks, const std::vector<float>& want) {
    INFO(num_chunks << " chunks, " << attention.dtype);
    attention.shape.num_chunks = num_chunks;
    attention.dlatent_dtype = DType::kFloat32;
    const Result in_float = attention.run_alone(sequence);
    const Tensor wanted = tensor_of(want, in_float.dlatent.shape(), attention.devices.cpu);
    CHECK(have_same_bits(in_float.dlatent, wanted));
    attention.dlatent_dtype = attention.dtype;
    CHECK(have_same_bits(attention.run_alone(sequence).dlatent,
                         attention.devices.rounded(wanted, attention.dtype)));
  };
  const auto pairs = [&](int first) { return sum(ascending(first, 2), ascending(first + 2, 2)); };
  check(1, ascending(0, 8));
  check(2, sum(ascending(0, 4), ascending(4, 4)));
  check(4, sum(pairs(0), pairs(4)));

  // Two ranks with two of the four chunks each: their sums in float32, added.
  std::vector<std::vector<float>> ranks;
  for (int first = 0; first < 8; first += 4) {
    FixedAttention rank(shape, attention.dtype);
    rank.shape.num_heads = 4;
    rank.shape.num_chunks = 2;
    rank.dlatent_dtype = DType::kFloat32;
    ranks.push_back(vector_of(rank.run_alone(attention.heads_of(sequence, first, 4)).dlatent));
  }
  check(4, sum(ranks[0], ranks[1]));
}

namespace {

// Sequences whose keys are in pages, and what their tokens' rows were.
struct Generation {
  struct Feed {
    std::int64_t sequence;
    std::int64_t num_tokens;
  };

  Generation(FixedAttention& given, std::vector<Sequence> all)
      : attention(given),
        sequences(std::move(all)),
        kept(sequences.size()),
        rows(sequences.size()),
        cache(given.devices.empty(attention_pages_shape(given.shape, kNumPages), given.dtype)) {}

  // Pages of the sequences alternate.
  static constexpr std::int64_t kNumPages = 8;
  std::int32_t page(std::int64_t sequence, std::int64_t index) const {
    return static_cast<std::int32_t>(kNumPages - 1 - sequence -
                                     index * static_cast<std::int64_t>(sequences.size()));
  }

  // Next tokens of some sequences.
  void feed(const std::vector<Feed>& feeds) {
    std::vector<std::int32_t> spans;
    std::vector<std::int32_t> pages;
    std::vector<Tensor> q;
    std::vector<Tensor> kv;
    std::vector<Tensor> latent;
    std::int32_t row = 0;
    for (const auto& [sequence, num_tokens] : feeds) {
      const auto first = kept[sequence];
      kept[sequence] += num_tokens;
      spans.insert(spans.end(), {row, static_cast<std::int32_t>(num_tokens),
                                 static_cast<std::int32_t>(kept[sequence]),
                                 static_cast<std::int32_t>(pages.size())});
      row += static_cast<std::int32_t>(num_tokens);
      for (std::int64_t index = 0; index * kPageTokens < kept[sequence]; ++index) {
        pages.push_back(page(sequence, index));
      }
      q.push_back(sequences[sequence].q.narrow(first, kept[sequence]));
      kv.push_back(sequences[sequence].kv.narrow(first, kept[sequence]));
      latent.push_back(sequences[sequence].latent.narrow(first, kept[sequence]));
    }
    const Tensor out = attend(
        q, kv, latent,
        {tensor_of(spans, {static_cast<std::int64_t>(feeds.size()), 4}, attention.devices.cpu),
         tensor_of(pages, {static_cast<std::int64_t>(pages.size())}, attention.devices.cpu)});
    row = 0;
    for (const auto& [sequence, num_tokens] : feeds) {
      rows[sequence].push_back(out.narrow(row, row + num_tokens));
      row += static_cast<std::int32_t>(num_tokens);
    }
  }
  Tensor attend(const std::vector<Tensor>& q, const std::vector<Tensor>& kv,
                const std::vector<Tensor>& latent, const std::pair<Tensor, Tensor>& where) {
    Devices& devices = attention.devices;
    const auto joined = [&](const std::vector<Tensor>& parts) {
      return attention.to_cuda(joined_rows(parts, devices.cpu));
    };
    const Tensor spans = devices.to_cuda(where.first);
    const Tensor pages = devices.to_cuda(where.second);
    const Tensor copies = Tensor::empty({0, 2}, DType::kInt32, devices.cuda);
    keep_in_pages(attention.shape, joined(kv), joined(latent), {spans, pages, copies}, cache,
                  devices.cuda);
    const Tensor queries = joined(q);
    Tensor out = devices.empty(
        {queries.size(0), std::int64_t{attention.shape.num_heads} * attention.shape.value_size},
        attention.dtype);
    paged_attention_forward(attention.shape, queries, {spans, pages, copies}, cache, out,
                            devices.cuda);
    return devices.to_cpu(out);
  }
  Tensor result(std::int64_t sequence) {
    return joined_rows(rows[sequence], attention.devices.cpu);
  }

  FixedAttention& attention;
  std::vector<Sequence> sequences;
  std::vector<std::int64_t> kept;  // tokens of each
  std::vector<std::vector<Tensor>> rows;
  Tensor cache;
};

}  // namespace

TEST_CASE("Attention on CUDA in fixed order: rows of generation have the bits of training") {
  const AttentionShape shape = GENERATE(kSmall, kTiny, kOdd, kWideValues, kDeepSeek);
  FixedAttention attention(shape, GENERATE(DType::kFloat32, DType::kBFloat16));
  const Sequence a = attention.sequence(144, "a");
  const Sequence b = attention.sequence(90, "b");
  const std::vector<Result> want = attention.run({b, a});

  Generation pieces(attention, {a, b});
  for (const std::int64_t num_tokens : {1, 5, 64, 20}) {
    pieces.feed({{0, num_tokens}, {1, num_tokens}});
  }
  while (pieces.kept[0] < 144) {  // decode
    pieces.feed({{0, 1}});
  }
  CHECK(have_same_bits(pieces.result(0), want[1].out));
  CHECK(have_same_bits(pieces.result(1), want[0].out));

  Generation prompts(attention, {b, a});
  attention.misaligned = 1;
  prompts.feed({{1, 100}});
  prompts.feed({{0, 90}, {1, 44}});
  CHECK(have_same_bits(prompts.result(1), want[1].out));
  CHECK(have_same_bits(prompts.result(0), want[0].out));
}

}  // namespace fathom::kernels
