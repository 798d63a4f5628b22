#include "rl/problem_stream.h"

#include <algorithm>

#include "core/error.h"
#include "data/permutation.h"

namespace fathom::rl {
namespace {

std::vector<double> weights_of(const std::vector<ProblemSource>& sources) {
  std::vector<double> weights;
  for (const ProblemSource& source : sources) {
    weights.push_back(source.weight);
  }
  return weights;
}

}  // namespace

ProblemStream::ProblemStream(const std::vector<ProblemSource>& sources, std::uint64_t seed)
    : seed_(seed), mixture_(weights_of(sources)) {
  for (const ProblemSource& source : sources) {
    sources_.push_back({{}, source.set});
    if (source.file.empty()) {
      generate_problem(source.set, 0);  // refuses a set that does not exist
    } else {
      sources_.back().problems = read_problems(source.file);
    }
  }
}

Problem ProblemStream::at(std::int64_t index) const {
  const data::Mixture::Place place = mixture_.at(index);
  const Source& source = sources_[static_cast<std::size_t>(place.source)];
  if (source.problems.empty()) {
    return generate_problem(source.set, static_cast<std::uint64_t>(place.index));
  }
  const auto size = std::ssize(source.problems);
  const data::IndexPermutation order(
      size, RandomSource(seed_, concat("problems/", place.source, "/epoch ", place.index / size)));
  return source.problems[static_cast<std::size_t>(order(place.index % size))];
}

std::vector<const Problem*> ProblemStream::known() const {
  std::vector<const Problem*> problems;
  for (const Source& source : sources_) {
    for (const Problem& problem : source.problems) {
      problems.push_back(&problem);
    }
  }
  return problems;
}

std::vector<Problem> take_problems(const ProblemSource& source, std::int64_t count) {
  std::vector<Problem> problems;
  if (!source.file.empty()) {
    problems = read_problems(source.file);
    problems.resize(count == 0 ? problems.size()
                               : std::min(problems.size(), static_cast<std::size_t>(count)));
    return problems;
  }
  for (std::int64_t index = 0; index < count; ++index) {
    problems.push_back(generate_problem(source.set, static_cast<std::uint64_t>(index)));
  }
  return problems;
}

}  // namespace fathom::rl
