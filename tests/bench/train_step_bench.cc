// Milliseconds and tokens/s of the training step of configs/models/small.textproto on one rank, 8
// sequences of 256 tokens, by phase; with the defaults of numerics.mode:
//   build/cpu/tests/bench/train_step_bench [EXACT|FAST] [threads] [steps] [micro_batch_size]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "configs/load.h"
#include "configs/resolve.h"
#include "core/rng.h"
#include "model/factory.h"
#include "optim/adamw.h"
#include "parallel/comm/thread_communicator.h"
#include "tests/support/paths.h"
#include "tests/support/tiny_run.h"

int main(int argc, char** argv) {
  using namespace fathom;
  config::RunConfig config;
  config.mutable_numerics()->set_mode(argc > 1 && std::string(argv[1]) == "FAST"
                                          ? config::Numerics::FAST
                                          : config::Numerics::EXACT);
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const int steps = argc > 3 ? std::atoi(argv[3]) : 10;
  testing::Layout layout;
  layout.micro_batch_size = argc > 4 ? std::atoi(argv[4]) : 8;
  *config.mutable_model() = config::load_model(test::source_path("configs/models/small.textproto"));
  config.mutable_train()->set_sequence_length(256);
  config.mutable_train()->set_global_batch_size(8);
  config::resolve(config, {});
  auto world = parallel::make_thread_world(1);
  Stream stream(Device{}, threads);
  testing::TinyRun run(model::make_model_options(config), layout, *world[0], stream);
  run.model().initialize(1);
  optim::AdamW optimizer(run.model().parameters(), {}, stream);
  testing::TinyBatch batch;
  batch.num_sequences = 8;
  batch.sequence_length = 256;
  const RandomSource random(1, "tokens");
  for (std::uint64_t i = 0; i < 2048; ++i) {
    batch.tokens.push_back(static_cast<std::int32_t>(random.below(i, 4096)));
    batch.targets.push_back(static_cast<std::int32_t>(random.below(i + 1, 4096)));
    batch.masks.push_back(1.0F);
  }
  trainer::StepOptions options;
  options.learning_rate = 1e-4;
  for (int step = 0; step < steps; ++step) {
    const auto start = std::chrono::steady_clock::now();
    const trainer::StepResult result = run.step(batch, optimizer, options);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    std::printf("step %d loss %.4f %.1f ms %.0f tokens/s", step, result.loss, took.count(),
                2048e3 / took.count());
    for (const auto& [phase, ms] : result.phase_ms) {
      std::printf("  %s %.1f", phase.c_str(), ms);
    }
    std::printf("  reserved %.1f MiB\n",
                static_cast<double>(stream.allocator()->bytes_reserved()) / 1048576.0);
  }
}
