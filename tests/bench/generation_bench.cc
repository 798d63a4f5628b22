// Tokens a second of generation: generation_bench [threads] [sequences] [new tokens] [prompt
// tokens] [model] [cache]. model: small (configs/models/small.textproto) or tiny (0.5 million
// weights); cache: expanded or latent.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/rng.h"
#include "parallel/comm/thread_communicator.h"
#include "tests/support/tiny_run.h"
#include "trainer/generation/generator.h"

namespace {

using namespace fathom;

model::ModelOptions model_of(const char* name) {
  model::ModelOptions options;
  const bool is_small = std::strcmp(name, "small") == 0;
  options.vocab_size = is_small ? 4096 : 1024;
  options.hidden_size = is_small ? 256 : 96;
  options.num_layers = is_small ? 4 : 3;
  options.num_dense_layers = 1;
  options.intermediate_size = is_small ? 512 : 192;
  options.num_attention_heads = 4;
  options.q_lora_rank = is_small ? 96 : 48;
  options.kv_lora_rank = is_small ? 64 : 32;
  options.qk_nope_head_dim = is_small ? 32 : 16;
  options.qk_rope_head_dim = is_small ? 16 : 8;
  options.v_head_dim = is_small ? 32 : 16;
  options.max_position = 4096;
  options.initializer_range = 0.02F;
  options.moe.num_experts = is_small ? 16 : 8;
  options.moe.num_shared_experts = 1;
  options.moe.top_k = is_small ? 4 : 2;
  options.moe.intermediate_size = is_small ? 128 : 48;
  options.numerics.tensor_chunks = 4;  // as EXACT, but for the gradients
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int index, int otherwise) {
    return argc > index ? std::atoi(argv[index]) : otherwise;
  };
  const int num_sequences = argument(2, 32);
  Stream stream({}, argument(1, 1));
  const auto world = parallel::make_thread_world(1);
  testing::TinyRun run(model_of(argc > 5 ? argv[5] : "small"), {}, *world[0], stream);
  run.model().initialize(1);
  std::vector<trainer::Prompt> prompts;
  for (int i = 0; i < num_sequences; ++i) {
    trainer::Prompt prompt{concat(i), 0, {}};
    for (int j = 0; j < argument(4, 16); ++j) {
      prompt.tokens.push_back(static_cast<std::int32_t>(
          RandomSource(1, prompt.id).below(static_cast<std::uint64_t>(j), 1000)));
    }
    prompts.push_back(prompt);
  }
  trainer::GenerationOptions options;
  options.max_new_tokens = argument(3, 256);
  if (argc > 6 && std::strcmp(argv[6], "latent") == 0) {
    options.cache = model::CacheForm::kLatent;
  }
  trainer::Generator generator(run.model(), run.mesh(), stream);
  for (int repeat = 0; repeat < 3; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    const auto completions = generator.generate(prompts, options);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::int64_t count = 0;
    std::int64_t sum = 0;
    for (const auto& completion : completions) {
      count += std::ssize(completion.tokens);
      for (const std::int32_t token : completion.tokens) {
        sum = (sum * 31 + token) % 1000003;
      }
    }
    std::printf("%.0f tokens/s, %.1f us a step, check %lld\n",
                static_cast<double>(count) / seconds.count(),
                seconds.count() / static_cast<double>(options.max_new_tokens) * 1e6,
                static_cast<long long>(sum));
  }
}
