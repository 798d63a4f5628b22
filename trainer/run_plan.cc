#include "trainer/run_plan.h"

#include <algorithm>
#include <iomanip>
#include <sstream>
#include <vector>

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "trainer/factory.h"
#include "trainer/generation_plan.h"
#include "trainer/rank_plan.h"

namespace fathom::trainer {
namespace {

// A column of a table: twelve characters, one digit after the point.
std::string mebibytes(std::int64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << std::setw(12)
      << static_cast<double>(bytes) / (1024.0 * 1024.0);
  return out.str();
}

std::string describe_numerics(const config::Numerics& numerics) {
  if (numerics.mode() == config::Numerics::FAST) {
    return "numerics: FAST, the same bits on the same layout";
  }
  return concat("numerics: EXACT, the same bits in every layout; gradients in contributions of ",
                numerics.gradient_unit_tokens(), " tokens and multiples of 2^-",
                numerics.gradient_fraction_bits(), ", tensor sums over ", numerics.tensor_chunks(),
                " chunks");
}

void describe_run(const config::RunConfig& config, std::ostream& out) {
  const config::Mesh& mesh = config.mesh();
  const ParameterCount count = count_parameters(config.model());
  out << "mesh: pipeline " << mesh.pipeline() << " x data " << mesh.data() << " x tensor "
      << mesh.tensor() << ", expert " << mesh.expert() << ", stages per rank "
      << mesh.stages_per_rank() << '\n'
      << describe_numerics(config.numerics()) << '\n'
      << "parameters: " << count.main;
  if (count.mtp > 0) {
    out << " and " << count.mtp << " of multi-token prediction";
  }
  out << '\n';
}

std::string describe_layers(const std::vector<int>& stages) {
  std::string text;
  for (const int layers : stages) {
    text += concat(text.empty() ? "" : "+", layers);
  }
  return text;
}

void describe_ranks(const config::RunConfig& config, const std::vector<RankPlan>& ranks,
                    std::ostream& out) {
  const bool has_reference = config.grpo().objective().kl_weight() > 0;
  const PipelinePlan pipeline = plan_pipeline(config);
  out << "per rank, MiB; ranks of a pipeline stage are alike, and the peak is that of a rank "
         "whose experts get "
      << config.mesh().assumed_imbalance() << " x the mean (mesh.assumed_imbalance)\n"
      << "  pipeline      layers  work  parameters       weights   gradients   optimizer"
      << (has_reference ? "   reference" : "") << "  activations         peak\n";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const RankPlan& plan = ranks[i];
    const std::int64_t fixed =
        plan.value_bytes + plan.gradient_bytes + plan.optimizer_bytes + plan.reference_bytes;
    out << std::setw(10) << i << std::setw(12) << describe_layers(pipeline.layers[i])
        << std::setw(6) << std::fixed << std::setprecision(2) << pipeline.work[i] << std::setw(12)
        << plan.num_parameters << "  " << mebibytes(plan.value_bytes)
        << mebibytes(plan.gradient_bytes) << mebibytes(plan.optimizer_bytes)
        << (has_reference ? mebibytes(plan.reference_bytes) : "") << ' '
        << mebibytes(plan.peak_bytes - fixed) << ' ' << mebibytes(plan.peak_bytes) << "\n"
        << "            sent per step:";
    for (const auto& [axis, bytes] : plan.bytes_sent) {
      if (bytes > 0) {
        out << ' ' << axis << mebibytes(bytes) << " MiB";
      }
    }
    out << '\n';
  }
  if (ranks.size() > 1) {
    out << "pipeline: the slowest rank has " << std::ranges::max(pipeline.work)
        << " x the mean of the work (operations of layers, head and multi-token prediction); with "
        << pipeline.num_micro_batches << " micro-batches a step the ranks work "
        << std::setprecision(0) << 100 * pipeline.busy_share
        << "% of the time at most, filling and draining counted\n";
  }
}

void describe_generation(const config::RunConfig& config, const std::vector<RankPlan>& ranks,
                         std::ostream& out) {
  const model::CacheForm form = make_cache_form(config);
  const std::vector<GenerationPlan> plans = plan_generation(config);
  out << "sampling holds a cache of " << plans.front().num_tokens
      << " tokens and the weights again, arranged for few rows, beside all that stays between "
         "steps, until its step is sampled; per rank, MiB, the cache "
      << (form == model::CacheForm::kLatent ? "LATENT" : "EXPANDED") << ":\n"
      << "  pipeline    expanded      latent     ratio  weights again    sampling  peak of the "
         "run\n";
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const GenerationPlan& plan = plans[i];
    const std::int64_t sampling =
        ranks[i].held_bytes + plan.cache_bytes(form) + plan.weight_bytes(form);
    const std::int64_t training = ranks[i].peak_bytes;
    out << std::setw(10) << i << mebibytes(plan.expanded_bytes) << mebibytes(plan.latent_bytes)
        << std::setw(10) << std::fixed << std::setprecision(1)
        << static_cast<double>(plan.expanded_bytes) /
               static_cast<double>(std::max<std::int64_t>(1, plan.latent_bytes))
        << "   " << mebibytes(plan.weight_bytes(form)) << mebibytes(sampling) << ' '
        << mebibytes(std::max(sampling, training))
        << (sampling > training ? ", in sampling" : ", in training") << '\n';
  }
}

// Last, so that nobody takes the peak for all that a device must have.
std::string describe_rest(const config::RunConfig& config) {
  std::string text = "not in these numbers: ";
  if (config.run().device() == config::Run::CUDA) {
    text +=
        "the CUDA context with the program's kernels, NCCL's buffers (docs/cuda.md), cuBLASLt's "
        "workspace (32 MiB), recorded CUDA graphs";
  } else {
    text += "the program and its threads, MPI's buffers, data that is read ahead";
  }
  if (config.rollout().max_new_tokens() > 0) {
    text += ", the activations of a step of sampling";
  }
  if (config.numerics().mode() == config::Numerics::EXACT) {
    text += ", EXACT's partial sums";
  }
  return text + "\n";
}

}  // namespace

std::string describe_plan(const config::RunConfig& config) {
  std::ostringstream out;
  const std::vector<RankPlan> ranks = plan_ranks(config);
  describe_run(config, out);
  describe_ranks(config, ranks, out);
  if (config.rollout().max_new_tokens() > 0) {
    describe_generation(config, ranks, out);
  }
  out << describe_rest(config);
  return out.str();
}

}  // namespace fathom::trainer
