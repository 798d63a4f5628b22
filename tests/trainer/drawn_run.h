#pragma once

#include <cstdint>
#include <vector>

#include "configs/schema/run.pb.h"
#include "trainer/generation/sequence.h"

// Small runs drawn at random, as wide as the rules of configs/ allow, for
// tests/trainer/random_layouts_test.cc.
namespace fathom::testing {

// One way to take a drawn run; none of it may show in what comes out.
struct DrawnLayout {
  config::RunConfig config;  // resolved; the rules accept it on its number of ranks
  int num_ranks = 1;
  trainer::GenerationOptions generation;
};

struct DrawnRun {
  DrawnLayout alone;  // on one rank
  std::vector<DrawnLayout> others;
  std::vector<trainer::Prompt> prompts;
};

// A function of the seed. Fewer than num_layouts where the rules leave hardly any.
DrawnRun draw_run(std::uint64_t seed, int num_layouts);

}  // namespace fathom::testing
