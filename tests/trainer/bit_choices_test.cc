#include "trainer/bit_choices.h"

#include "configs/load.h"
#include "configs/resolve.h"
#include "configs/schema/run.pb.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "trainer/identity.h"

namespace fathom::trainer {
namespace {

using Lines = std::vector<std::string>;

CheckpointIdentity identity_of(std::vector<std::string> overrides) {
  overrides.emplace_back("optimizer.schedule.phases[0].until_step=20");
  config::RunConfig config =
      config::load(test::source_path("configs/runs/tiny.textproto"), overrides);
  config::resolve(config, {.world_size = 4});
  return make_identity(config, "tokenizer");
}

TEST_CASE("Another layout, place or length of a run is no choice of its bits") {
  const CheckpointIdentity before = identity_of({});
  CHECK(changed_bit_choices(before, before).empty());
  CHECK(changed_bit_choices(
            before,
            identity_of({"mesh.tensor=2", "train.micro_batch_size=2", "run.threads=2",
                         "train.recompute.layers=true", "run.directory=elsewhere", "train.steps=40",
                         "checkpoint.interval=3", "evaluation.interval=0", "run.transport=MPI",
                         "run.cuda_graphs=false", "data.train[0].path=/moved/train"}))
            .empty());
}

TEST_CASE("What changes the bits of a resumed run is told field by field") {
  const CheckpointIdentity before = identity_of({});
  CHECK(changed_bit_choices(before, identity_of({"optimizer.lr=1e-3"})) ==
        Lines{"optimizer.lr 0.003 -> 0.001"});
  CHECK(changed_bit_choices(
            before, identity_of({"numerics.gradient_unit_tokens=4", "numerics.tensor_chunks=2",
                                 "train.global_batch_size=16"})) ==
        Lines{"numerics.gradient_unit_tokens 8 -> 4", "numerics.tensor_chunks 4 -> 2",
              "train.global_batch_size 8 -> 16"});
  CHECK(changed_bit_choices(before, identity_of({"data.train[0].path=other"})) ==
        Lines{"data.train[0].path \"train\" -> \"other\""});
  CHECK(changed_bit_choices(before, identity_of({"data.train[1].path=more"})) ==
        Lines{"data.train[1].path absent -> \"more\"", "data.train[1].weight absent -> 1"});
  CheckpointIdentity older = before;
  older.program_version = "0.0.1";
  CHECK(changed_bit_choices(older, before) ==
        Lines{concat("program version 0.0.1 -> ", kProgramVersion)});
  older.config_text = "of another age";
  CHECK(changed_bit_choices(older, before).size() == 2);
}

TEST_CASE("Data of the same name with other contents is told, where both are known") {
  CheckpointIdentity before = identity_of({"data.train[1].path=more"});
  CheckpointIdentity now = before;
  now.data_contents = {"aa", "bb"};
  CHECK(changed_bit_choices(before, now).empty());  // an older checkpoint
  before.data_contents = {"aa", "cc"};
  CHECK(changed_bit_choices(before, now) ==
        Lines{"data.train[1] has other contents than when the checkpoint was written"});
  before.data_contents = now.data_contents;
  CHECK(changed_bit_choices(before, now).empty());
}

TEST_CASE("In mode FAST the layout is a choice too") {
  const std::string fast = "numerics.mode=FAST";
  CHECK(changed_bit_choices(identity_of({fast}), identity_of({fast, "mesh.tensor=2"})) ==
        Lines{"mesh.data 4 -> 2", "mesh.tensor 1 -> 2"});
  CHECK(changed_bit_choices(identity_of({fast}), identity_of({fast, "run.transport=MPI"})) ==
        Lines{"run.transport NCCL -> MPI"});
  CHECK(changed_bit_choices(identity_of({fast}), identity_of({fast, "run.threads=2"})).empty());
  CHECK(changed_bit_choices(identity_of({fast}), identity_of({fast, "mesh.assumed_imbalance=2"}))
            .empty());
}

TEST_CASE("Weights that were trained with other rotary frequencies are told apart") {
  const CheckpointIdentity plain = identity_of({});
  const CheckpointIdentity published =
      identity_of({"model.yarn.factor=40", "model.yarn.mscale=0.707", "optimizer.lr=1e-3"});
  CHECK(changed_yarn(published, plain) ==
        Lines{"model.yarn.factor 40 -> 1", "model.yarn.mscale 0.707 -> 1"});
  CHECK(changed_yarn(plain, published) ==
        Lines{"model.yarn.factor 1 -> 40", "model.yarn.mscale 1 -> 0.707"});
  CHECK(changed_yarn(published, published).empty());
  CHECK(changed_yarn(plain, identity_of({"model.yarn.mscale=0.707"})).empty());  // off in both
}

TEST_CASE("A schedule that ends with the run makes its length a choice") {
  const auto identity = [](const std::string& steps) {
    config::RunConfig config =
        config::load(test::source_path("configs/runs/tiny.textproto"), {"train.steps=" + steps});
    config::resolve(config, {});
    return make_identity(config, "");
  };
  CHECK(changed_bit_choices(identity("20"), identity("30")) == Lines{"train.steps 20 -> 30"});
}

}  // namespace
}  // namespace fathom::trainer
