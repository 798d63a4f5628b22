// A config.json of a Hugging Face folder.
#include <nlohmann/json.hpp>

#include "configs/schema/model.pb.h"
#include "data/json.h"
#include "tests/fuzz/fuzz_target.h"
#include "trainer/hf/model_config.h"

using namespace fathom;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto json =
      test::unless_refused([&] { return data::parse_json(test::as_text(bytes, size), "config"); });
  if (!json) {
    return 0;
  }
  test::unless_refused([&] { return trainer::has_block_scales(*json, "config"); });
  const auto model =
      test::unless_refused([&] { return trainer::read_model_config(*json, "config"); });
  if (!model) {
    return 0;
  }
  // What can be written reads back as the same model.
  const auto written = test::unless_refused(
      [&] { return trainer::write_model_config(*model, trainer::WeightDType::kBFloat16, {}); });
  if (written) {
    const auto again = nlohmann::json::parse(written->dump());
    test::must(trainer::read_model_config(again, "again").SerializeAsString() ==
                   model->SerializeAsString(),
               "a model is another after writing and reading");
  }
  return 0;
}
