// What a model wrote, for every verifier: a policy in training is as good at odd inputs as a
// fuzzer.
#include <array>
#include <memory>

#include "rl/verifiers/judge.h"
#include "tests/fuzz/fuzz_target.h"

using namespace fathom;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const std::array<std::unique_ptr<const rl::Verifier>, 7> kVerifiers{
      rl::make_verifier("number", "-3/4"),
      rl::make_verifier("number", "(1/2, 1,234)"),
      rl::make_verifier("integers", "1 2 30"),
      rl::make_verifier("countdown", "(1 + 2 + 3) * 4"),
      rl::make_verifier("countdown:3,5,7", "3 * 5 + 7"),
      rl::make_verifier("knights_and_knaves", "Alice knight, Bob knave"),
      rl::make_verifier("text", "two words")};
  const std::string_view completion = test::as_text(bytes, size);
  for (const auto mode :
       {rl::ExtractionMode::kTagged, rl::ExtractionMode::kWhole, rl::ExtractionMode::kLenient}) {
    for (const auto& verifier : kVerifiers) {
      const rl::Judgement judgement = rl::judge(completion, *verifier, {.mode = mode});
      test::must(judgement.answer.size() <= completion.size() || mode != rl::ExtractionMode::kWhole,
                 "an answer that nobody wrote");
      test::must(judgement == rl::judge(completion, *verifier, {.mode = mode}),
                 "two verdicts on one answer");
    }
  }
  return 0;
}
