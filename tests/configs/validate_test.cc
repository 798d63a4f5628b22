#include "configs/validate.h"

#include <string>
#include <vector>

#include "configs/load.h"
#include "configs/resolve.h"
#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"

namespace fathom::config {
namespace {

const std::string kTiny = test::source_path("configs/runs/tiny.textproto");

std::vector<std::string> problems_of(const std::vector<std::string>& overrides, int world_size) {
  RunConfig config = load(kTiny, overrides);
  resolve(config, {.world_size = world_size});
  return find_problems(config, world_size);
}

struct Case {
  std::vector<std::string> overrides;
  std::vector<std::string> expected;
  int world_size = 1;
};

void check_cases(const std::vector<Case>& cases) {
  for (const Case& bad : cases) {
    CAPTURE(bad.overrides);
    CHECK(problems_of(bad.overrides, bad.world_size) == bad.expected);
  }
}

}  // namespace

TEST_CASE("the tiny config fits every layout of up to 8 ranks that it claims") {
  CHECK(problems_of({}, 1).empty());
  CHECK(problems_of({}, 8).empty());
  CHECK(problems_of({"mesh.pipeline=2", "mesh.tensor=2", "mesh.expert=4"}, 8).empty());
  CHECK(problems_of({"mesh.pipeline=2", "mesh.stages_per_rank=2", "mesh.expert=2"}, 4).empty());
  CHECK(problems_of({"mesh.pipeline=2", "mesh.layers_per_stage=[1, 3]"}, 4).empty());
  CHECK(problems_of({"mesh.pipeline=2", "mesh.layers_per_stage=[4, 0]"}, 4).empty());
}

TEST_CASE("a mesh of its own is enough when the program is not started under mpirun") {
  CHECK(problems_of({"mesh.pipeline=4", "mesh.data=8", "mesh.expert=8"}, 0).empty());
}

TEST_CASE("what must be given is asked for by name") {
  check_cases({
      {{"run.directory="}, {"run.directory is not set"}},
      {{"model.vocab_size=0"}, {"model.vocab_size is not set"}},
      {{"model.hidden_size=0"}, {"model.hidden_size is not set"}},
      {{"model.num_layers=0", "model.num_dense_layers=0"}, {"model.num_layers is not set"}},
      {{"model.intermediate_size=0"}, {"model.intermediate_size is not set"}},
      {{"model.num_attention_heads=0"}, {"model.num_attention_heads is not set"}},
      {{"model.kv_lora_rank=0"}, {"model.kv_lora_rank is not set"}},
      {{"model.qk_nope_head_dim=0"}, {"model.qk_nope_head_dim is not set"}},
      {{"model.qk_rope_head_dim=0"}, {"model.qk_rope_head_dim is not set"}},
      {{"model.v_head_dim=0"}, {"model.v_head_dim is not set"}},
      {{"model.moe.num_experts=0"}, {"model.moe.num_experts is not set"}},
      {{"model.moe.top_k=0"}, {"model.moe.top_k is not set"}},
      {{"model.moe.intermediate_size=0"}, {"model.moe.intermediate_size is not set"}},
      {{"train.steps=0"}, {"train.steps is not set"}},
      {{"train.global_batch_size=0"}, {"train.global_batch_size is not set"}},
      {{"train.sequence_length=0"}, {"train.sequence_length is not set"}},
      {{"optimizer={}"}, {"optimizer.lr is not set"}},
      {{"data.train=[]"}, {"data.train is empty: give at least one { path: ... }"}},
      {{"data.train[1].weight=2"}, {"data.train[1].path is not set"}},
  });
}

TEST_CASE("numbers outside their range are reported with their field") {
  check_cases({
      {{"run.threads=-1"}, {"run.threads (-1) is not in [0, 4096]"}},
      {{"model.vocab_size=-4"}, {"model.vocab_size (-4) must be positive"}},
      {{"model.vocab_size=4294967296"}, {"model.vocab_size (4294967296) is above 2147483647"}},
      {{"model.moe.num_shared_experts=9223372036854775807"},
       {"model.moe.num_shared_experts (9223372036854775807) is above 2147483647"}},
      {{"train.micro_batch_size=9223372036854775807"},
       {"train.micro_batch_size (9223372036854775807) is above 2147483647"}},
      {{"train.sequence_length=-9223372036854775808", "model.max_position=64"},
       {"train.sequence_length (-9223372036854775808) must be positive"}},
      {{"model.q_lora_rank=-1"}, {"model.q_lora_rank (-1) must not be negative"}},
      {{"model.qk_rope_head_dim=5"},
       {"model.qk_rope_head_dim (5) must be even: positions turn pairs"}},
      {{"model.rope_theta=1"}, {"model.rope_theta (1) must be above 1"}},
      {{"model.rms_norm_epsilon=0"}, {"model.rms_norm_epsilon (0) must be positive"}},
      {{"model.initializer_range=-0.1"}, {"model.initializer_range (-0.1) must be positive"}},
      {{"model.mtp_depth=-1"}, {"model.mtp_depth (-1) must not be negative"}},
      {{"model.yarn.factor=0.5"}, {"model.yarn.factor (0.5) must be at least 1"}},
      {{"model.yarn.beta_fast=1"},
       {"model.yarn.beta_fast (1) must be above model.yarn.beta_slow (1)"}},
      {{"model.moe.gate_scale=0"}, {"model.moe.gate_scale (0) must be positive"}},
      {{"model.moe.selection_bias_update_rate=-1"},
       {"model.moe.selection_bias_update_rate (-1) must not be negative"}},
      {{"train.time_limit=-1"}, {"train.time_limit (-1) must not be negative"}},
      {{"train.time_limit=nan"}, {"train.time_limit (nan) is not a finite number"}},
      {{"train.watchdog_timeout=0.5"},
       {"train.watchdog_timeout (0.5) is not in [1, 2592000] seconds"}},
      {{"train.watchdog_timeout=3000000"},
       {"train.watchdog_timeout (3e+06) is not in [1, 2592000] seconds"}},
      {{"train.max_skipped_steps=0"}, {"train.max_skipped_steps (0) must be positive"}},
      {{"train.trace.elements_step=3", "train.trace.elements_of=lm_head.weight"},
       {"train.trace.elements_step (3) needs train.trace.enabled"}},
      {{"train.trace.enabled=true", "train.trace.elements_step=3"},
       {"train.trace.elements_step (3) and train.trace.elements_of (\"\") go together: set both or "
        "none"}},
      {{"optimizer.lr=0"}, {"optimizer.lr (0) must be positive"}},
      {{"optimizer.lr=inf", "optimizer.weight_decay=0"},
       {"optimizer.lr (inf) is not a finite number"}},
      {{"optimizer.adamw.beta2=1"}, {"optimizer.adamw.beta2 (1) is not in [0, 1)"}},
      {{"optimizer.adamw.epsilon=0"}, {"optimizer.adamw.epsilon (0) must be positive"}},
      {{"optimizer.weight_decay=-0.1"}, {"optimizer.weight_decay (-0.1) must not be negative"}},
      {{"optimizer.clip_norm=-1"}, {"optimizer.clip_norm (-1) must not be negative"}},
      {{"data.train[0].weight=0"}, {"data.train[0].weight (0) must be positive"}},
      {{"data.fim_rate=1.5"}, {"data.fim_rate (1.5) is not in [0, 1]"}},
      {{"checkpoint.interval=-5"}, {"checkpoint.interval (-5) must not be negative"}},
      {{"checkpoint.keep_last=-1"}, {"checkpoint.keep_last (-1) must not be negative"}},
      {{"evaluation.num_sequences=-1"}, {"evaluation.num_sequences (-1) must not be negative"}},
      {{"evaluation.temperature=-1"}, {"evaluation.temperature (-1) must not be negative"}},
  });
}

TEST_CASE("contradictions inside the model are reported with both numbers") {
  check_cases({
      {{"model.num_dense_layers=5"},
       {"model.num_dense_layers (5) is not in [0, model.num_layers (4)]"}},
      {{"model.moe.num_groups=3", "model.moe.num_kept_groups=3"},
       {"model.moe.num_groups (3) does not divide model.moe.num_experts (8)"}},
      {{"model.moe.num_kept_groups=5"},
       {"model.moe.num_kept_groups (5) is above model.moe.num_groups (4)"}},
      {{"model.moe.top_k=5"},
       {"model.moe.top_k (5) is above the experts a token can reach: model.moe.num_kept_groups (2) "
        "x 2 experts a "
        "group = 4"}},
      {{"model.moe.num_groups=8"},
       {"model.moe.group_score SUM_OF_TOP2 needs 2 experts a group: num_experts (8) / num_groups "
        "(8) is 1"}},
      {{"model.moe.num_device_groups=3"},
       {"model.moe.num_device_groups (3) does not divide model.moe.num_experts (8)"}},
      {{"model.moe.num_device_groups=2", "model.moe.max_device_groups_per_token=3"},
       {"model.moe.max_device_groups_per_token (3) is not in [1, model.moe.num_device_groups "
        "(2)]"}},
  });
  RunConfig config = load(kTiny);
  config.mutable_model()->clear_moe();
  resolve(config, {});
  CHECK(find_problems(config, 1) ==
        std::vector<std::string>{"model.moe is not set, and only model.num_dense_layers (1) of "
                                 "model.num_layers (4) are dense"});
}

TEST_CASE("fine-tuning asks for a tokenizer and for a template that tells turns apart") {
  const auto problems = [](const std::vector<std::string>& overrides) {
    RunConfig config = load(kTiny, overrides);
    resolve(config, {});
    return find_problems(config, 1, Use::kFineTuning);
  };
  CHECK(problems({"data.tokenizer=t.json"}).empty());
  CHECK(problems({"data.tokenizer=t.json", "data.chat.user=\"\"", "data.chat.assistant=\"\""})
            .empty());
  CHECK(problems({"data.fim_rate=0.1", "data.chat.end=\"\"", "data.chat.user=X",
                  "data.chat.assistant=X"}) ==
        std::vector<std::string>{
            "data.tokenizer is not set: conversations are tokenized with that of the weights' own "
            "training",
            "data.fim_rate (0.1) is for pretraining: conversations are not rearranged",
            "data.chat.end is empty: an answer would never end",
            "data.chat.user and data.chat.assistant are both \"X\": nothing would tell question "
            "and answer apart"});
}

TEST_CASE("inference asks for nothing to learn from, nor for batches that fit") {
  RunConfig config = load(kTiny, {"data.train=[]", "train.global_batch_size=7"});
  resolve(config, {.world_size = 2});
  CHECK_FALSE(find_problems(config, 2).empty());
  CHECK(find_problems(config, 2, Use::kInference).empty());
  config.mutable_mesh()->set_tensor(3);
  CHECK_FALSE(find_problems(config, 2, Use::kInference).empty());
}

TEST_CASE("a layout that does not fit is reported with its numbers") {
  check_cases({
      {{"mesh.tensor=3", "numerics.mode=FAST"},
       {"mesh.pipeline (1) x mesh.tensor (3) = 3 does not divide the number of ranks (4)"},
       4},
      {{"mesh.pipeline=2", "mesh.data=2"},
       {"mesh.pipeline (2) x mesh.data (2) x mesh.tensor (1) = 4, but the number of ranks is 8"},
       8},
      {{"mesh.pipeline=0"}, {"mesh.pipeline (0) is not in [1, 65536]"}, 4},
      {{"mesh.data=-1"}, {"mesh.data (-1) is not in [1, 65536]"}, 4},
      {{"mesh.expert=3"},
       {"mesh.expert (3) does not divide mesh.data (4) x mesh.tensor (1) = 4",
        "mesh.expert (3) does not divide model.moe.num_experts (8)"},
       4},
      {{"mesh.expert=16", "train.global_batch_size=16"},
       {"mesh.expert (16) does not divide model.moe.num_experts (8)"},
       16},
      {{"mesh.tensor=3", "train.sequence_length=33", "numerics.mode=FAST"},
       {"mesh.tensor (3) does not divide model.vocab_size (512)",
        "mesh.tensor (3) does not divide model.num_attention_heads (4)",
        "mesh.tensor (3) does not divide model.intermediate_size (64)",
        "mesh.tensor (3) does not divide model.moe.num_shared_experts x "
        "model.moe.intermediate_size (16)"},
       3},
      {{"mesh.tensor=2", "train.sequence_length=33", "numerics.mode=FAST"},
       {"mesh.tensor (2) does not divide train.micro_batch_size x train.sequence_length (33)"},
       2},
      {{"mesh.pipeline=8"},
       {"mesh.pipeline (8) x mesh.stages_per_rank (1) = 8 stages, but model.num_layers is 4"},
       8},
      {{"mesh.stages_per_rank=2"},
       {"mesh.stages_per_rank (2) above 1 needs mesh.pipeline (1) above 1"},
       1},
      {{"mesh.pipeline=2", "mesh.layers_per_stage=[1, 1, 2]"},
       {"mesh.layers_per_stage lists 3 stages, but mesh.pipeline (2) x mesh.stages_per_rank (1) = "
        "2"},
       2},
      {{"mesh.pipeline=2", "mesh.layers_per_stage=[2, 3]"},
       {"mesh.layers_per_stage adds up to 5, but model.num_layers is 4"},
       2},
      {{"mesh.assumed_imbalance=0.9"}, {"mesh.assumed_imbalance (0.9) must be at least 1"}, 1},
      {{"mesh.group_elements=-1"}, {"mesh.group_elements (-1) is a number of weights, or 0"}, 1},
      {{"mesh.pipeline=2", "mesh.layers_per_stage=[-1, 5]"},
       {"mesh.layers_per_stage[0] (-1) must not be negative"},
       2},
  });
}

TEST_CASE("a batch that does not divide is reported with its numbers") {
  check_cases({
      {{"train.micro_batch_size=3"},
       {"train.global_batch_size (8) is not a multiple of train.micro_batch_size (3) x mesh.data "
        "(1) = 3"}},
      {{"train.global_batch_size=6"},
       {"train.global_batch_size (6) is not a multiple of train.micro_batch_size (1) x mesh.data "
        "(4) = 4"},
       4},
      {{"mesh.pipeline=2", "mesh.stages_per_rank=2", "train.global_batch_size=7"},
       {"mesh.stages_per_rank (2) needs the micro-batches of a step (train.global_batch_size: 7) "
        "to be a multiple of mesh.pipeline (2)"},
       2},
      {{"train.batch_ramp={start_global_batch_size: 16 ramp_tokens: 100}"},
       {"train.batch_ramp.start_global_batch_size (16) is above train.global_batch_size (8)"}},
      {{"train.batch_ramp={start_global_batch_size: 3 ramp_tokens: 100}"},
       {"train.batch_ramp.start_global_batch_size (3) is not a multiple of train.micro_batch_size "
        "(1) x mesh.data (2) = 2"},
       2},
      {{"train.batch_ramp={start_global_batch_size: 4 ramp_tokens: 100 increment: 3}"},
       {"train.batch_ramp.increment (3) is not a multiple of train.micro_batch_size (1) x "
        "mesh.data "
        "(2) = 2"},
       2},
      {{"train.batch_ramp={start_global_batch_size: 4}"},
       {"train.batch_ramp.ramp_tokens (0) must be positive"}},
      {{"model.max_position=16"}, {"train.sequence_length (32) is above model.max_position (16)"}},
      {{"train.sequence_length=2", "model.mtp_depth=2", "numerics.mode=FAST"},
       {"train.sequence_length (2) must be above model.mtp_depth (2)"}},
  });
}

TEST_CASE("a schedule that contradicts itself is reported") {
  const auto schedule = [](const std::string& text) {
    return std::vector<std::string>{"optimizer.schedule={" + text + "}"};
  };
  check_cases({
      {schedule("warmup_steps: 10 warmup_tokens: 100"),
       {"optimizer.schedule has both warmup_steps (10) and warmup_tokens (100): give one"}},
      {schedule("phases { kind: COSINE }"),
       {"optimizer.schedule.phases[0].end_lr is not set: a COSINE phase needs one"}},
      {schedule("phases {} phases { kind: LINEAR end_lr: 0 }"),
       {"optimizer.schedule.phases[0] has neither until_step nor until_tokens: only the last phase "
        "may"}},
      {schedule("phases { until_step: 5 until_tokens: 9 }"),
       {"optimizer.schedule.phases[0] has both until_step (5) and until_tokens (9): give one"}},
      {schedule("warmup_steps: 5 phases { until_step: 5 }"),
       {"optimizer.schedule.phases[0].until_step (5) must be above 5, where what comes before it "
        "ends"}},
      {schedule("phases { until_tokens: 90 } phases { until_tokens: 80 end_lr: -1 }"),
       {"optimizer.schedule.phases[1].end_lr (-1) must not be negative",
        "optimizer.schedule.phases[1].until_tokens (80) must be above 90, where what comes before "
        "it ends"}},
      {schedule("phases { kind: LINEAR end_lr: inf }"),
       {"optimizer.schedule.phases[0].end_lr (inf) is not a finite number"}},
      {{"optimizer.parameter_dtype=BFLOAT16"},
       {"optimizer.parameter_dtype BFLOAT16 needs optimizer.master_weights: updates below 1/256 of "
        "a weight would be lost"}},
      {{"optimizer.lr=20"},
       {"optimizer.lr (20) x optimizer.weight_decay (0.1) is above 1: a step would turn the "
        "weights round"}},
  });
}

TEST_CASE("a slope is in the unit of what it starts from") {
  const auto schedule = [](const std::string& text) {
    return std::vector<std::string>{"optimizer.schedule={" + text + "}"};
  };
  const std::string v3 =  // arXiv:2412.19437, section 4.2
      "warmup_steps: 2000 "
      "phases { kind: CONSTANT until_tokens: 10000000000000 } "
      "phases { kind: COSINE until_tokens: 14300000000000 end_lr: 2.2e-5 } "
      "phases { kind: CONSTANT until_tokens: 14633000000000 } "
      "phases { kind: CONSTANT until_tokens: 14800000000000 end_lr: 7.3e-6 }";
  check_cases({
      {schedule(v3), {}},
      {schedule("phases { kind: COSINE until_tokens: 90 end_lr: 0 }"), {}},
      {schedule("warmup_tokens: 9 phases { kind: LINEAR until_tokens: 90 end_lr: 0 } "
                "phases { until_step: 10 end_lr: 1e-4 } phases { kind: COSINE end_lr: 0 }"),
       {}},
      {schedule("warmup_steps: 5 phases { kind: LINEAR until_tokens: 90 end_lr: 0 }"),
       {"optimizer.schedule.phases[0] is LINEAR in tokens, and the warm-up before it ends in "
        "steps: give both in one unit"}},
      {schedule("warmup_tokens: 5 phases { kind: COSINE end_lr: 0 }"),
       {"optimizer.schedule.phases[0] is COSINE in steps, and the warm-up before it ends in "
        "tokens: give both in one unit"}},
      {schedule("warmup_steps: 5 phases { until_tokens: 90 } phases { kind: COSINE end_lr: 0 }"),
       {"optimizer.schedule.phases[1] is COSINE in steps, and phases[0] before it ends in tokens: "
        "give both in one unit"}},
  });
}

TEST_CASE("what needs a tokenizer or held-out text says so") {
  check_cases({
      {{"evaluation.prompts=Once"}, {"evaluation.prompts (1) need data.tokenizer"}},
      {{"evaluation.interval=10"},
       {"evaluation.interval (10) needs data.validation or evaluation.prompts"}},
      {{"data.validation=\"\""}, {"data.validation[0] is empty"}},
  });
}

TEST_CASE("what EXACT asks of a layout is said with the numbers and the way out") {
  check_cases({
      {{"mesh.tensor=2", "numerics.gradient_unit_tokens=32"},
       {"numerics.mode EXACT: a rank's part of a micro-batch, train.micro_batch_size (1) x "
        "train.sequence_length (32) / mesh.tensor (2) = 16 tokens, is not whole units of "
        "numerics.gradient_unit_tokens (32): make the micro-batch larger, or set the unit to 16, "
        "which changes the bits of the run"},
       2},
      {{"mesh.tensor=4", "numerics.tensor_chunks=2"},
       {"mesh.tensor (4) does not divide numerics.tensor_chunks (2): sums over tensor ranks are "
        "trees over that many parts; set it to a multiple, which changes the bits of the run, or "
        "use numerics.mode FAST"},
       4},
      {{"numerics.tensor_chunks=3"},
       {"numerics.tensor_chunks (3) is not a power of two in [1, 256]"}},
      {{"numerics.tensor_chunks=8"},
       {"numerics.tensor_chunks (8) does not divide model.num_attention_heads (4)"}},
      {{"numerics.gradient_fraction_bits=61"},
       {"numerics.gradient_fraction_bits (61) is not in [32, 60]"}},
      {{"numerics.deterministic=false"},
       {"numerics.deterministic false needs numerics.mode FAST: EXACT is the same bits always"}},
      {{"numerics.deterministic=false", "numerics.mode=FAST"}, {}},
      {{"optimizer.gradient_dtype=BFLOAT16"},
       {"optimizer.gradient_dtype BFLOAT16 needs numerics.mode FAST: EXACT sums gradients as "
        "integers"}},
      {{"numerics.gradient_unit_tokens=0"}, {"numerics.gradient_unit_tokens is not set"}},
      {{"run.device=CUDA", "numerics.mode=EXACT", "numerics.tensor_chunks=4"},
       {"model.num_attention_heads x (model.qk_nope_head_dim + model.qk_rope_head_dim) (48) is not "
        "a multiple of numerics.tensor_chunks (4) x 8, as numerics.mode EXACT needs it for "
        "products of bfloat16: choose another size or fewer chunks, or set "
        "optimizer.parameter_dtype FLOAT32 or numerics.mode FAST",
        "model.moe.num_shared_experts x model.moe.intermediate_size (16) is not a multiple of "
        "numerics.tensor_chunks (4) x 8, as numerics.mode EXACT needs it for products of bfloat16: "
        "choose another size or fewer chunks, or set optimizer.parameter_dtype FLOAT32 or "
        "numerics.mode FAST",
        "model.qk_rope_head_dim (4) is not a multiple of 8 beside a model.kv_lora_rank (16) that "
        "is one, as numerics.mode EXACT needs it for products of bfloat16: set "
        "optimizer.parameter_dtype FLOAT32 or numerics.mode FAST"}},
      {{"run.device=CUDA", "numerics.mode=EXACT", "model.qk_rope_head_dim=8"}, {}},  // 2 chunks
      {{"run.device=CUDA", "numerics.mode=EXACT", "model.kv_lora_rank=20"}, {}},
      {{"run.device=CUDA", "numerics.mode=EXACT", "optimizer.parameter_dtype=FLOAT32"}, {}},
      {{"run.device=CUDA"}, {}},
  });
}

TEST_CASE("all problems come in one error, a line each") {
  RunConfig config = load(kTiny, {"mesh.tensor=3", "numerics.mode=FAST", "optimizer.lr=-1"});
  resolve(config, {.world_size = 4});
  try {
    validate(config, 4);
    FAIL("validate() accepted the config");
  } catch (const ConfigError& error) {
    CHECK(error.message() ==
          "2 problems with the config:\n"
          "  mesh.pipeline (1) x mesh.tensor (3) = 3 does not divide the number of ranks (4)\n"
          "  optimizer.lr (-1) must be positive");
  }
}

TEST_CASE("an empty config is answered with every field that it lacks") {
  RunConfig config;
  resolve(config, {});
  CHECK(find_problems(config, 1).size() == 15);
}

}  // namespace fathom::config
