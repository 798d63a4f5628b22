#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/mixture.h"
#include "rl/problems/generator.h"
#include "rl/problems/problem.h"

namespace fathom::rl {

// Where problems come from: a file, or a built-in set.
struct ProblemSource {
  std::filesystem::path file = {};  // empty: the set
  ProblemSet set = {};
  double weight = 1;
};

// An endless sequence of problems in which sources take turns by weight. The problems of a file
// come in an order of their own in every epoch, those of a set as they are numbered.
class ProblemStream {
 public:
  // Reads the files. `seed` is of the order. Throws ConfigError and IoError (problem.h),
  // ConfigError for a set that does not exist and without any source.
  ProblemStream(const std::vector<ProblemSource>& sources, std::uint64_t seed);

  // A pure function of the index.
  Problem at(std::int64_t index) const;
  // Which source it comes from.
  std::int32_t source_at(std::int64_t index) const { return mixture_.at(index).source; }
  // The problems of the files.
  std::vector<const Problem*> known() const;

 private:
  struct Source {
    std::vector<Problem> problems;  // of a file
    ProblemSet set;
  };
  std::uint64_t seed_;
  std::vector<Source> sources_;
  data::Mixture mixture_;
};

// The first `count` problems of a source, in order; 0: all of a file. Throws as ProblemStream does.
std::vector<Problem> take_problems(const ProblemSource& source, std::int64_t count);

}  // namespace fathom::rl
