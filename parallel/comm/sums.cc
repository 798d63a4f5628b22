#include "parallel/comm/sums.h"

namespace fathom::parallel {

std::int64_t from_rank_0(std::int64_t mine, Communicator& communicator) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(communicator.world_size()));
  communicator.all_gather_integers(std::span(&mine, 1), all);
  return all.front();
}

std::vector<std::int64_t> sum_integers(std::span<const std::int64_t> mine,
                                       Communicator& communicator) {
  std::vector<std::int64_t> all(mine.size() * static_cast<std::size_t>(communicator.world_size()));
  communicator.all_gather_integers(mine, all);
  std::vector<std::int64_t> sums(mine.size(), 0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    sums[i % mine.size()] += all[i];
  }
  return sums;
}

std::vector<double> sum_exactly(std::span<const ExactSum> mine, Communicator& communicator) {
  std::vector<std::int64_t> integers;
  for (const ExactSum& sum : mine) {
    const auto of_sum = sum.to_integers();
    integers.insert(integers.end(), of_sum.begin(), of_sum.end());
  }
  const std::vector<std::int64_t> sums = sum_integers(integers, communicator);
  const std::size_t width = mine.empty() ? 0 : sums.size() / mine.size();
  std::vector<double> values;
  for (std::size_t i = 0; i < mine.size(); ++i) {
    values.push_back(ExactSum::from_integers(std::span(sums).subspan(i * width, width)).value());
  }
  return values;
}

}  // namespace fathom::parallel
