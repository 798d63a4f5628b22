// A config as text: parsed, resolved for a job of 8 ranks, checked for every use, and written
// again.
#include "configs/load.h"
#include "configs/resolve.h"
#include "configs/validate.h"
#include "configs/write.h"
#include "tests/fuzz/fuzz_target.h"

using namespace fathom;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string text(test::as_text(bytes, size));
  auto config = test::unless_refused([&] { return config::load_stored(text, "input"); });
  if (!config) {
    return 0;
  }
  const std::string written = config::to_text(*config);
  test::must(config::to_text(config::load_stored(written, "written")) == written,
             "a config that is written reads back as another");
  config::resolve(*config, {.world_size = 8, .ranks_per_node = 4, .cores_per_node = 16});
  for (const config::Use use : {config::Use::kPretraining, config::Use::kFineTuning,
                                config::Use::kReinforcement, config::Use::kInference}) {
    config::find_problems(*config, 8, use);
  }
  return 0;
}
