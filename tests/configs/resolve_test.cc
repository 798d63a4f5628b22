#include "configs/resolve.h"

#include "tests/support/catch.h"

namespace fathom::config {

TEST_CASE("mesh.data fills what the other axes leave of the ranks") {
  RunConfig config;
  config.mutable_mesh()->set_pipeline(2);
  config.mutable_mesh()->set_tensor(2);
  resolve(config, {.world_size = 12});
  CHECK(config.mesh().data() == 3);
  resolve(config, {.world_size = 8});
  CHECK(config.mesh().data() == 3);  // given is given

  RunConfig odd;
  odd.mutable_mesh()->set_pipeline(3);
  resolve(odd, {.world_size = 8});
  CHECK(odd.mesh().data() == 0);

  RunConfig unstarted;
  unstarted.mutable_mesh()->set_pipeline(3);
  resolve(unstarted, {.world_size = 0});
  CHECK(unstarted.mesh().data() == 1);
}

TEST_CASE("threads share the cores of the node between its ranks") {
  const auto threads = [](int ranks, int cores) {
    RunConfig config;
    resolve(config, {.world_size = ranks, .ranks_per_node = ranks, .cores_per_node = cores});
    return config.run().threads();
  };
  CHECK(threads(1, 2) == 2);
  CHECK(threads(4, 16) == 4);
  CHECK(threads(3, 16) == 5);
  CHECK(threads(4, 2) == 1);
}

TEST_CASE("the rest of the absent fields follows from the run") {
  RunConfig config;
  config.mutable_run()->set_directory("runs/a");
  config.mutable_run()->set_seed(5);
  config.mutable_train()->set_sequence_length(64);
  config.mutable_train()->mutable_batch_ramp()->set_start_global_batch_size(12);
  resolve(config, {});
  CHECK(config.checkpoint().directory() == "runs/a/checkpoints");
  CHECK(config.data().seed() == 5);
  CHECK(config.model().max_position() == 64);
  CHECK(config.train().batch_ramp().increment() == 12);

  RunConfig given;
  given.mutable_run()->set_directory("runs/a");
  given.mutable_run()->set_seed(5);
  given.mutable_checkpoint()->set_directory("/scratch");
  given.mutable_data()->set_seed(0);
  given.mutable_model()->set_max_position(99);
  given.mutable_train()->mutable_batch_ramp()->set_increment(4);
  resolve(given, {});
  CHECK(given.checkpoint().directory() == "/scratch");
  CHECK(given.data().seed() == 0);
  CHECK(given.model().max_position() == 99);
  CHECK(given.train().batch_ramp().increment() == 4);
}

TEST_CASE("EXACT's parts follow from the model and the sequences, never from the layout") {
  RunConfig config;
  config.mutable_model()->set_vocab_size(129280);
  config.mutable_model()->set_num_attention_heads(6);
  config.mutable_model()->set_intermediate_size(64);
  config.mutable_train()->set_sequence_length(384);
  config.mutable_mesh()->set_tensor(3);
  resolve(config, {});
  CHECK(config.numerics().mode() == Numerics::EXACT);
  CHECK(config.numerics().gradient_unit_tokens() == 128);
  CHECK(config.numerics().tensor_chunks() == 2);

  RunConfig given;
  given.mutable_train()->set_sequence_length(4096);
  given.mutable_numerics()->set_gradient_unit_tokens(64);
  given.mutable_numerics()->set_tensor_chunks(16);
  resolve(given, {});
  CHECK(given.numerics().gradient_unit_tokens() == 64);
  CHECK(given.numerics().tensor_chunks() == 16);

  RunConfig cuda;
  cuda.mutable_run()->set_device(Run::CUDA);
  resolve(cuda, {});
  CHECK(cuda.numerics().mode() == Numerics::FAST);
}

TEST_CASE(
    "a CUDA run computes in bfloat16 with float32 copies of the weights, unless told otherwise") {
  const auto resolved = [](Run::Device device, bool is_float32) {
    RunConfig config;
    config.mutable_run()->set_device(device);
    if (is_float32) {
      config.mutable_optimizer()->set_parameter_dtype(FLOAT32);
    }
    resolve(config, {});
    return std::pair(config.optimizer().parameter_dtype(), config.optimizer().master_weights());
  };
  CHECK((resolved(Run::CUDA, false) == std::pair(BFLOAT16, true)));
  CHECK((resolved(Run::CUDA, true) == std::pair(FLOAT32, false)));
  CHECK((resolved(Run::CPU, false) == std::pair(FLOAT32, false)));
}

}  // namespace fathom::config
