// The head by chunks of tokens: its losses and gradients, and what it holds of the logits.
#include "model/lm_head.h"

#include <algorithm>

#include "tests/model/head_run.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

namespace fathom::testing {
namespace {

// Shorter than the tokens and not dividing them, a unit of EXACT, all.
constexpr std::int64_t kChunks[] = {5, 4, 16, kHeadTokens, 2048};

// The same weight for every token, given where weights that depend on losses are.
class EqualWeights final : public model::TokenLoss {
 public:
  void weigh(int, const Tensor&, Tensor& weights, Stream&) override {
    std::fill_n(weights.mutable_data<float>(), weights.numel(), 0.1F);
  }
};

constexpr std::int64_t kManyTokens = 256;
constexpr std::int64_t kManyClasses = 1024;
constexpr std::int64_t kLogitBytes = kManyClasses * 4;  // of a token

struct Growth {
  std::int64_t peak = 0;  // bytes at the highest point of the forward
  std::int64_t kept = 0;  // after it
};

// What the head's forward takes beside what there was before, on one rank.
Growth forward_growth(std::int64_t chunk_tokens, model::Pass pass, model::TokenLoss* token_loss) {
  Growth growth;
  test::run_ranks(1, [&](parallel::Communicator& world, Stream& stream) {
    const parallel::Mesh mesh(world, {});
    model::ModelOptions options;
    options.vocab_size = kManyClasses;
    options.hidden_size = 8;
    options.head_chunk_tokens = chunk_tokens;
    model::LmHead head(options, mesh);
    head.weight().value() = Tensor::zeros(head.weight().shape, DType::kFloat32, stream);
    head.weight().grad.sum = Tensor::zeros(head.weight().shape, DType::kFloat32, stream);
    const auto zeros = [&](DType dtype) {
      return Tensor::zeros(Shape{kManyTokens}, dtype, stream);
    };
    model::MicroBatch batch;
    batch.num_sequences = 1;
    batch.sequence_length = kManyTokens;
    batch.targets.push_back({zeros(DType::kInt32), zeros(DType::kFloat32), zeros(DType::kFloat32)});
    const Tensor x = Tensor::zeros(Shape{kManyTokens, 8}, DType::kFloat32, stream);
    model::LossSums losses(1);
    model::Context context{stream, mesh, batch, {}};
    context.pass = pass;
    context.losses = &losses;
    context.token_loss = token_loss;
    const std::int64_t before = stream.allocator()->bytes_in_use();
    stream.allocator()->reset_peak();
    const Tensor dx = head.forward_backward(x, batch.targets[0], 0, context);
    growth.peak = stream.allocator()->peak_bytes() - before;
    growth.kept = stream.allocator()->bytes_in_use() - before;
  });
  return growth;
}

}  // namespace

TEST_CASE("The head has the losses and gradients of its definition, whatever the chunk") {
  const bool is_exact = GENERATE(false, true);
  const bool weighs_losses = GENERATE(false, true);
  const HeadResult want = head_reference(DType::kFloat32, weighs_losses);
  for (const int ranks : {1, 2}) {
    for (const std::int64_t chunk_tokens : kChunks) {
      INFO(ranks << " tensor ranks, chunks of " << chunk_tokens << " tokens");
      const HeadResult found = run_head({.tensor_ranks = ranks,
                                         .chunk_tokens = chunk_tokens,
                                         .is_exact = is_exact,
                                         .weighs_losses = weighs_losses});
      CHECK(found.loss == Approx(want.loss).epsilon(1e-6));
      CHECK(relative_gap(found.dx, want.dx) < 1e-6);
      CHECK(relative_gap(found.weight_gradient, want.weight_gradient) < 1e-6);
      CHECK(found.num_weighed == (weighs_losses ? ranks : 0));
    }
  }
}

TEST_CASE("EXACT: the chunks of the head do not show, on one tensor rank or two") {
  const bool weighs_losses = GENERATE(false, true);
  const HeadResult want = run_head({.is_exact = true, .weighs_losses = weighs_losses});
  for (const int ranks : {1, 2}) {
    for (const std::int64_t chunk_tokens : kChunks) {
      INFO(ranks << " tensor ranks, chunks of " << chunk_tokens << " tokens");
      const HeadResult found = run_head({.tensor_ranks = ranks,
                                         .chunk_tokens = chunk_tokens,
                                         .is_exact = true,
                                         .weighs_losses = weighs_losses});
      CHECK(found.loss == want.loss);
      CHECK(found.dx == want.dx);
      CHECK(found.exact_sums == want.exact_sums);
    }
  }
}

TEST_CASE("A head that evaluates has losses and no gradients") {
  const HeadResult found = run_head({.chunk_tokens = 5, .pass = model::Pass::kEvaluate});
  CHECK(found.loss == Approx(head_reference(DType::kFloat32, false).loss).epsilon(1e-6));
  CHECK(found.dx.empty());
  for (const double element : found.weight_gradient) {
    CHECK(element == 0.0);
  }
}

TEST_CASE("The head never holds more than the logits of a chunk") {
  EqualWeights equal;
  const model::Pass pass = GENERATE(model::Pass::kTrain, model::Pass::kEvaluate);
  model::TokenLoss* const token_loss =
      GENERATE_REF(static_cast<model::TokenLoss*>(nullptr), static_cast<model::TokenLoss*>(&equal));
  // dx, and a few numbers a token.
  const std::int64_t of_tokens = kManyTokens * (8 + 8) * 4;
  const Growth whole = forward_growth(kManyTokens, pass, token_loss);
  CHECK(whole.peak >= kManyTokens * kLogitBytes);
  CHECK(whole.peak <= kManyTokens * kLogitBytes + of_tokens);
  const Growth chunks = forward_growth(16, pass, token_loss);
  CHECK(chunks.peak >= 16 * kLogitBytes);
  CHECK(chunks.peak < 2 * 16 * kLogitBytes);
  CHECK(chunks.kept <= of_tokens);
}

}  // namespace fathom::testing
