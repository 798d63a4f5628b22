#include "trainer/hf/published_tensors.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/published_options.h"
#include "trainer/hf/safetensors_plan.h"

using namespace fathom;
using namespace fathom::test;
using namespace fathom::trainer;

namespace {

constexpr std::int64_t kOneFile = std::int64_t{1} << 60;

// Tensors and bytes of a release in one file.
std::pair<std::int64_t, std::int64_t> size_of_release(const std::string& name, WeightDType dtype) {
  const auto files = plan_safetensors(published_tensors(published_options(name)), dtype, kOneFile);
  REQUIRE(files.size() == 1);
  return {std::ssize(files[0].entries), files[0].data_bytes()};
}

const PublishedTensor& find(const std::vector<PublishedTensor>& tensors, const std::string& name) {
  const auto found = std::ranges::find(tensors, name, &PublishedTensor::name);
  INFO(name);
  REQUIRE(found != tensors.end());
  return *found;
}

}  // namespace

// The counts of the files that deepseek-ai/DeepSeek-V3 has on Hugging Face.
TEST_CASE("DeepSeek-V3 has the published number of tensors and bytes") {
  CHECK(size_of_release("deepseek-v3", WeightDType::kFloat8E4M3) ==
        std::pair<std::int64_t, std::int64_t>(91'991, 688'574'839'360));
}

// 2 bytes for each of the published parameters (tests/configs/models_test.cc).
TEST_CASE("DeepSeek-V2 and V2-Lite have the published number of bytes") {
  CHECK(size_of_release("deepseek-v2-lite", WeightDType::kBFloat16).second == 2 * 15'706'484'224);
  CHECK(size_of_release("deepseek-v2", WeightDType::kBFloat16).second == 2 * 235'741'434'880);
}

TEST_CASE("names, shapes and kinds of V3's tensors are the published ones") {
  const std::vector<PublishedTensor> tensors = published_tensors(published_options("deepseek-v3"));
  struct Row {
    const char* name;
    Shape shape;
    bool is_block_scaled, is_float32;
    const char* copy_of;
  };
  const std::vector<Row> rows{
      {"model.embed_tokens.weight", {129280, 7168}, false, false, ""},
      {"model.norm.weight", {7168}, false, false, ""},
      {"lm_head.weight", {129280, 7168}, false, false, ""},
      {"model.layers.60.post_attention_layernorm.weight", {7168}, false, false, ""},
      {"model.layers.0.self_attn.q_a_proj.weight", {1536, 7168}, true, false, ""},
      {"model.layers.0.self_attn.q_a_layernorm.weight", {1536}, false, false, ""},
      {"model.layers.0.self_attn.q_b_proj.weight", {24576, 1536}, true, false, ""},
      {"model.layers.0.self_attn.kv_a_proj_with_mqa.weight", {576, 7168}, true, false, ""},
      {"model.layers.0.self_attn.kv_a_layernorm.weight", {512}, false, false, ""},
      {"model.layers.0.self_attn.kv_b_proj.weight", {32768, 512}, true, false, ""},
      {"model.layers.0.self_attn.o_proj.weight", {7168, 16384}, true, false, ""},
      {"model.layers.2.mlp.down_proj.weight", {7168, 18432}, true, false, ""},
      {"model.layers.3.mlp.gate.weight", {256, 7168}, false, false, ""},
      {"model.layers.3.mlp.gate.e_score_correction_bias", {256}, false, true, ""},
      {"model.layers.3.mlp.experts.255.gate_proj.weight", {2048, 7168}, true, false, ""},
      {"model.layers.3.mlp.shared_experts.down_proj.weight", {7168, 2048}, true, false, ""},
      {"model.layers.61.mlp.experts.0.up_proj.weight", {2048, 7168}, true, false, ""},
      {"model.layers.61.eh_proj.weight", {7168, 14336}, false, false, ""},
      {"model.layers.61.enorm.weight", {7168}, false, false, ""},
      {"model.layers.61.shared_head.norm.weight", {7168}, false, false, ""},
      {"model.layers.61.embed_tokens.weight",
       {129280, 7168},
       false,
       false,
       "model.embed_tokens.weight"},
      {"model.layers.61.shared_head.head.weight", {129280, 7168}, false, false, "lm_head.weight"},
  };
  for (const Row& row : rows) {
    const PublishedTensor& tensor = find(tensors, row.name);
    CHECK(tensor.shape == row.shape);
    CHECK(tensor.is_block_scaled == row.is_block_scaled);
    CHECK(tensor.is_float32 == row.is_float32);
    CHECK(tensor.copy_of == row.copy_of);
  }
  const auto lite = published_tensors(published_options("deepseek-v2-lite"));
  CHECK(find(lite, "model.layers.0.self_attn.q_proj.weight").shape == Shape{3072, 2048});
  CHECK(find(lite, "model.layers.1.mlp.shared_experts.up_proj.weight").shape == Shape{2816, 2048});
  CHECK(std::ranges::none_of(lite, [](const PublishedTensor& tensor) {
    return tensor.name.ends_with("e_score_correction_bias");
  }));
}

TEST_CASE("a model of more tensors than a checkpoint may have is refused before they are listed") {
  model::ModelOptions model = published_options("deepseek-v3");
  model.num_layers = INT32_MAX;
  CHECK_THROWS_AS(published_tensors(model), ConfigError);
  model.num_layers = 1;
  model.moe.num_experts = INT32_MAX;
  CHECK_THROWS_AS(published_tensors(model), ConfigError);
}

TEST_CASE("a release is cut into files of a size") {
  const std::vector<PublishedTensor> tensors{
      {.name = "a", .shape = {200, 10}, .is_block_scaled = true, .copy_of = ""},
      {.name = "b", .shape = {7}, .copy_of = ""},
      {.name = "c", .shape = {3}, .is_float32 = true, .copy_of = ""},
      {.name = "d", .shape = {2000}, .copy_of = ""}};
  const auto fp8 = plan_safetensors(tensors, WeightDType::kFloat8E4M3, 2040);
  REQUIRE(fp8.size() == 2);
  CHECK(fp8[0].name == "model-00001-of-00002.safetensors");
  CHECK(fp8[0].entries ==
        std::vector<SafetensorsEntry>{{"a", WeightDType::kFloat8E4M3, {200, 10}, 0, 2000},
                                      {"a_scale_inv", WeightDType::kFloat32, {2, 1}, 2000, 2008},
                                      {"b", WeightDType::kBFloat16, {7}, 2008, 2022},
                                      {"c", WeightDType::kFloat32, {3}, 2022, 2034}});
  CHECK(fp8[1].entries ==
        std::vector<SafetensorsEntry>{{"d", WeightDType::kBFloat16, {2000}, 0, 4000}});
  const auto one = plan_safetensors(tensors, WeightDType::kFloat32, kOneFile);
  REQUIRE(one.size() == 1);
  CHECK(one[0].name == "model.safetensors");
  CHECK(one[0].data_bytes() == 4 * (2000 + 7 + 3 + 2000));
}
