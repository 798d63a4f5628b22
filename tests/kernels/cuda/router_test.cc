#include "kernels/router.h"

#include "kernels/cuda/consecutive_experts.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

RouterOptions v3_options() {
  RouterOptions options;
  options.num_experts = 256;
  options.top_k = 8;
  options.num_groups = 8;
  options.num_kept_groups = 4;
  options.gate_scale = 2.5F;
  return options;
}

RouterOptions v2_options() {
  RouterOptions options;
  options.score = ScoreFunction::kSoftmax;
  options.group_score = GroupScore::kMax;
  options.num_experts = 160;
  options.top_k = 6;
  options.num_groups = 8;
  options.num_kept_groups = 3;
  options.normalize_gates = false;
  options.gate_scale = 16.0F;
  return options;
}

// More groups than a warp has lanes, more slots than that too.
RouterOptions many_groups() {
  RouterOptions options = v3_options();
  options.num_experts = 120;
  options.top_k = 37;
  options.num_groups = 40;
  options.num_kept_groups = 35;
  return options;
}

RouterOptions without_groups(int num_experts, int top_k, ScoreFunction score) {
  RouterOptions options;
  options.score = score;
  options.num_experts = num_experts;
  options.top_k = top_k;
  return options;
}

const std::vector<RouterOptions>& all_options() {
  static const std::vector<RouterOptions> kOptions{v3_options(),
                                                   v2_options(),
                                                   many_groups(),
                                                   without_groups(1, 1, ScoreFunction::kSigmoid),
                                                   without_groups(7, 3, ScoreFunction::kSoftmax),
                                                   without_groups(64, 6, ScoreFunction::kSoftmax),
                                                   without_groups(512, 8, ScoreFunction::kSigmoid)};
  return kOptions;
}

struct Routed {
  Routed(const RouterOptions& options, const Tensor& logits, const Tensor& bias, Stream& stream)
      : scores(Tensor::empty(logits.shape(), DType::kFloat32, stream)),
        expert_ids(Tensor::empty(Shape{logits.size(0), options.top_k}, DType::kInt32, stream)),
        gates(Tensor::empty(Shape{logits.size(0), options.top_k}, DType::kFloat32, stream)) {
    router_forward(options, logits, bias, scores, expert_ids, gates, stream);
  }
  Tensor scores, expert_ids, gates;
};

// Multiples of 1/4: many are equal, and those that are not differ by more than a rounding.
Tensor coarse(const Shape& shape, const char* name, Devices& devices) {
  Tensor numbers = random_tensor(shape, name, devices.cpu);
  for (float& number : numbers.mutable_values<float>()) {
    number = std::round(number * 16.0F) / 4.0F;
  }
  return numbers;
}

void check_routed(const Routed& found, const Routed& want, Devices& devices) {
  CHECK(vector_of<std::int32_t>(devices.to_cpu(found.expert_ids)) ==
        vector_of<std::int32_t>(want.expert_ids));
  CHECK(largest_error(found.scores, want.scores, devices) < 1e-6);
  CHECK(largest_error(found.gates, want.gates, devices) < 1e-6);
}

}  // namespace

TEST_CASE("The router on CUDA chooses and weighs as the CPU") {
  Devices devices;
  for (const RouterOptions& options : all_options()) {
    for (const std::int64_t num_tokens : {0, 1, 21}) {
      INFO(options.num_experts << " experts, " << num_tokens << " tokens");
      const Tensor logits = coarse(Shape{num_tokens, options.num_experts}, "logits", devices);
      Tensor bias = coarse(Shape{options.num_experts}, "bias", devices);
      for (float& number : bias.mutable_values<float>()) {
        number *= options.score == ScoreFunction::kSoftmax ? 0x1p-8F : 0.25F;
      }
      const Routed want(options, logits, bias, devices.cpu);
      const Routed found(options, devices.to_cuda(logits), devices.to_cuda(bias), devices.cuda);
      check_routed(found, want, devices);
    }
  }
}

TEST_CASE("Equal scores go to the lowest expert and the lowest group on CUDA") {
  Devices devices;
  const RouterOptions options = v3_options();
  const Tensor bias = devices.to_cuda(filled(Shape{256}, 0.0F, devices.cpu));
  Tensor logits = filled(Shape{2, 256}, 0.25F, devices.cpu);
  std::fill_n(logits.mutable_data<float>() + 256 + 161, 7, 1.0F);  // of group 5
  const Routed found(options, devices.to_cuda(logits), bias, devices.cuda);
  CHECK(vector_of<std::int32_t>(devices.to_cpu(found.expert_ids)) ==
        std::vector<std::int32_t>{0, 1, 2, 3, 4, 5, 6, 7,  //
                                  0, 161, 162, 163, 164, 165, 166, 167});
}

TEST_CASE("A token without a choice gets the first experts and NaN gates on CUDA") {
  Devices devices;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const RouterOptions& options : {v3_options(), v2_options(), all_options().back()}) {
    Tensor logits = random_tensor(Shape{4, options.num_experts}, "logits", devices.cpu);
    logits.mutable_data<float>()[options.num_experts + 37] = nan;
    logits.mutable_data<float>()[3 * options.num_experts] = -infinity;  // one of many
    Tensor bias = filled(Shape{options.num_experts}, 0.0F, devices.cpu);
    const Routed want(options, logits, bias, devices.cpu);
    const Routed found(options, devices.to_cuda(logits), devices.to_cuda(bias), devices.cuda);
    CHECK(vector_of<std::int32_t>(devices.to_cpu(found.expert_ids)) ==
          vector_of<std::int32_t>(want.expert_ids));
    const std::vector<float> gates = vector_of(devices.to_cpu(found.gates));
    for (std::size_t i = 0; i < gates.size(); ++i) {
      const std::int64_t token = static_cast<std::int64_t>(i) / options.top_k;
      CHECK(std::isnan(gates[i]) == (token == 1));
    }
    // Fewer candidates than slots.
    std::fill_n(bias.mutable_data<float>(), options.num_experts - options.top_k + 1, -infinity);
    const Routed none(options, devices.to_cuda(logits), devices.to_cuda(bias), devices.cuda);
    const std::vector<std::int32_t> ids = vector_of<std::int32_t>(devices.to_cpu(none.expert_ids));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      CHECK(ids[i] == static_cast<std::int32_t>(i) % options.top_k);
      CHECK(std::isnan(vector_of(devices.to_cpu(none.gates))[i]));
    }
  }
}

TEST_CASE("Consecutive experts modulo their number are dealt out in ascending order") {
  for (int first = 0; first < 7; ++first) {
    for (int count = 1; count <= 7; ++count) {
      std::vector<int> want;
      std::vector<int> found;
      for (int j = 0; j < count; ++j) {
        want.push_back((first + j) % 7);
        found.push_back(cuda::ascending_of_consecutive(first, count, 7, j));
      }
      std::ranges::sort(want);
      CHECK(found == want);
    }
  }
}

TEST_CASE("Forced and kept choices on CUDA are those of the CPU") {
  Devices devices;
  for (RouterOptions options : all_options()) {
    const Shape shape{9, options.num_experts};
    const Tensor logits = random_tensor(shape, "logits", devices.cpu);
    const Tensor bias = filled(Shape{options.num_experts}, 0.0F, devices.cpu);
    const Tensor logits_there = devices.to_cuda(logits);
    const Tensor bias_there = devices.to_cuda(bias);
    options.forced_balance = true;
    options.first_token = (std::int64_t{1} << 33) + 5;
    Routed want(options, logits, bias, devices.cpu);
    Routed found(options, logits_there, bias_there, devices.cuda);
    check_routed(found, want, devices);
    options.forced_balance = false;
    options.keeps_choice = true;
    router_forward(options, logits, bias, want.scores, want.expert_ids, want.gates, devices.cpu);
    router_forward(options, logits_there, bias_there, found.scores, found.expert_ids, found.gates,
                   devices.cuda);
    check_routed(found, want, devices);
  }
}

TEST_CASE("The router's gradients on CUDA are those of the CPU") {
  Devices devices;
  for (const RouterOptions& options : all_options()) {
    for (const std::int64_t num_tokens : {0, 1, 13}) {
      INFO(options.num_experts << " experts, " << num_tokens << " tokens");
      const Shape shape{num_tokens, options.num_experts};
      const Tensor bias = filled(Shape{options.num_experts}, 0.0F, devices.cpu);
      const Routed routed(options, random_tensor(shape, "logits", devices.cpu), bias, devices.cpu);
      const Tensor d_gates = random_tensor(routed.gates.shape(), "d_gates", devices.cpu);
      const Tensor d_scores = random_tensor(shape, "d_scores", devices.cpu);
      Tensor want = Tensor::empty(shape, DType::kFloat32, devices.cpu);
      router_backward(options, routed.scores, routed.expert_ids, d_gates, d_scores, want,
                      devices.cpu);
      Tensor found = devices.to_cuda(d_scores);
      router_backward(options, devices.to_cuda(routed.scores), devices.to_cuda(routed.expert_ids),
                      devices.to_cuda(d_gates), found, found, devices.cuda);  // in place
      CHECK(largest_error(found, want, devices) < 2e-6);
    }
  }
}

TEST_CASE("Statistics of the balance on CUDA are those of the CPU") {
  Devices devices;
  for (const RouterOptions& options : all_options()) {
    for (const std::int64_t num_tokens : {0, 1, 45}) {
      INFO(options.num_experts << " experts, " << num_tokens << " tokens");
      const Shape shape{num_tokens, options.num_experts};
      const Shape per_sequence{4, options.num_experts};
      const Tensor logits = coarse(shape, "logits", devices);
      const Tensor bias = filled(Shape{options.num_experts}, 0.0F, devices.cpu);
      const Routed routed(options, logits, bias, devices.cpu);
      std::vector<std::int32_t> sequences;
      for (std::int64_t token = 0; token < num_tokens; ++token) {
        sequences.push_back(static_cast<std::int32_t>(token < 20 ? token / 10 : token % 3));
      }
      const Tensor ids = tensor_of(sequences, Shape{num_tokens}, devices.cpu);
      const Tensor ids_there = devices.to_cuda(ids);
      const Tensor scores_there = devices.to_cuda(routed.scores);
      const Tensor experts_there = devices.to_cuda(routed.expert_ids);
      const auto ones = [](const Shape& of, Stream& stream) {
        return tensor_of(std::vector<std::int64_t>(static_cast<std::size_t>(of.numel()), 1), of,
                         stream);
      };

      Tensor counts = ones(per_sequence, devices.cpu);
      Tensor sums = ones(per_sequence, devices.cpu);
      Tensor counts_there = devices.to_cuda(counts);
      Tensor sums_there = devices.to_cuda(sums);
      balance_statistics(options, routed.scores, ids, counts, sums, devices.cpu);
      balance_statistics(options, scores_there, ids_there, counts_there, sums_there, devices.cuda);
      CHECK(bytes_of(devices.to_cpu(counts_there)) == bytes_of(counts));
      const Tensor sums_found = devices.to_cpu(sums_there);
      for (std::int64_t i = 0; i < sums.numel(); ++i) {
        const auto found = static_cast<double>(sums_found.data<std::int64_t>()[i]);
        CHECK(std::ldexp(found, -kScoreFractionBits) ==
              Approx(std::ldexp(static_cast<double>(sums.data<std::int64_t>()[i]),
                                -kScoreFractionBits))
                  .epsilon(1e-6));
      }

      Tensor groups = ones(Shape{4, options.num_groups}, devices.cpu);
      Tensor groups_there = devices.to_cuda(groups);
      selection_statistics(routed.expert_ids, ids, counts, groups, devices.cpu);
      selection_statistics(experts_there, ids_there, counts_there, groups_there, devices.cuda);
      CHECK(bytes_of(devices.to_cpu(counts_there)) == bytes_of(counts));
      CHECK(bytes_of(devices.to_cpu(groups_there)) == bytes_of(groups));

      Tensor totals = ones(Shape{options.num_experts}, devices.cpu);
      Tensor totals_there = devices.to_cuda(totals);
      count_experts(routed.expert_ids, totals, devices.cpu);
      count_experts(experts_there, totals_there, devices.cuda);
      CHECK(bytes_of(devices.to_cpu(totals_there)) == bytes_of(totals));
      Tensor by_token =
          ones(Shape{options.num_experts, std::max<std::int64_t>(1, shape[0])}, devices.cpu);
      Tensor by_token_there = devices.to_cuda(by_token);
      count_experts(routed.expert_ids, by_token, devices.cpu);
      count_experts(experts_there, by_token_there, devices.cuda);
      CHECK(bytes_of(devices.to_cpu(by_token_there)) == bytes_of(by_token));

      const Tensor coefficient = random_tensor(per_sequence, "coefficient", devices.cpu);
      Tensor gradient = random_tensor(shape, "gradient", devices.cpu);
      Tensor gradient_there = devices.to_cuda(gradient);
      balance_backward(options, routed.scores, ids, coefficient, gradient, devices.cpu);
      balance_backward(options, scores_there, ids_there, devices.to_cuda(coefficient),
                       gradient_there, devices.cuda);
      CHECK(largest_error(gradient_there, gradient, devices) < 1e-6);
    }
  }
}

TEST_CASE("Statistics on CUDA pass over what is outside, and NaN scores add nothing") {
  Devices devices;
  const RouterOptions options = without_groups(4, 2, ScoreFunction::kSoftmax);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor scores = tensor_of<float>(
      {0.5F, 0.25F, 0.125F, 0.125F, nan, nan, nan, nan, 1, 1, 1, 1}, Shape{3, 4}, devices.cpu);
  const Tensor sequences =
      devices.to_cuda(tensor_of<std::int32_t>({0, 0, 1}, Shape{3}, devices.cpu));
  Tensor counts = Tensor::zeros(Shape{1, 4}, DType::kInt64, devices.cuda);
  Tensor sums = Tensor::zeros(Shape{1, 4}, DType::kInt64, devices.cuda);
  balance_statistics(options, devices.to_cuda(scores), sequences, counts, sums, devices.cuda);
  CHECK(vector_of<std::int64_t>(devices.to_cpu(counts)) == std::vector<std::int64_t>{2, 2, 0, 0});
  const std::int64_t one = std::int64_t{1} << kScoreFractionBits;
  CHECK(vector_of<std::int64_t>(devices.to_cpu(sums)) ==
        std::vector<std::int64_t>{one / 2, one / 4, one / 8, one / 8});
}

}  // namespace fathom::kernels
