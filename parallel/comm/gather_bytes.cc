#include "parallel/comm/gather_bytes.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>

namespace fathom::parallel {
namespace {

constexpr std::size_t kWord = sizeof(std::int64_t);
constexpr std::size_t kWordsPerRound = 4096;  // 32 KiB of each rank at a time bounds the memory

// Shows each rank's bytes, round by round, to `receive`; each rank's length is known before.
void exchange(std::string_view mine, Communicator& communicator,
              const std::function<void(const std::vector<std::int64_t>& lengths)>& begin,
              const std::function<void(std::size_t rank, std::string_view bytes)>& receive) {
  const auto num_ranks = static_cast<std::size_t>(communicator.world_size());
  const auto length = static_cast<std::int64_t>(mine.size());
  std::vector<std::int64_t> lengths(num_ranks);
  communicator.all_gather_integers(std::span(&length, 1), lengths);
  begin(lengths);
  const auto longest = static_cast<std::size_t>(*std::max_element(lengths.begin(), lengths.end()));
  for (std::size_t done = 0; done < longest;) {
    const std::size_t round_words = std::min(kWordsPerRound, (longest - done + kWord - 1) / kWord);
    const std::size_t round_bytes = round_words * kWord;
    std::vector<std::int64_t> words(round_words), all(round_words * num_ranks);
    if (done < mine.size()) {
      const std::string_view part = mine.substr(done, round_bytes);
      std::memcpy(words.data(), part.data(), part.size());
    }
    communicator.all_gather_integers(words, all);
    for (std::size_t rank = 0; rank < num_ranks; ++rank) {
      const auto rank_length = static_cast<std::size_t>(lengths[rank]);
      if (done < rank_length) {
        receive(rank, {reinterpret_cast<const char*>(all.data() + rank * round_words),
                       std::min(round_bytes, rank_length - done)});
      }
    }
    done += round_bytes;
  }
}

}  // namespace

std::vector<std::string> gather_bytes(std::string_view mine, int root, Communicator& communicator) {
  std::vector<std::string> all;
  const bool is_root = communicator.rank() == root;
  exchange(
      mine, communicator,
      [&](const std::vector<std::int64_t>& lengths) { all.resize(is_root ? lengths.size() : 0); },
      [&](std::size_t rank, std::string_view bytes) {
        if (is_root) {
          all[rank] += bytes;
        }
      });
  return all;
}

std::vector<std::string> all_gather_bytes(std::string_view mine, Communicator& communicator) {
  std::vector<std::string> all;
  exchange(
      mine, communicator,
      [&](const std::vector<std::int64_t>& lengths) { all.resize(lengths.size()); },
      [&](std::size_t rank, std::string_view bytes) { all[rank] += bytes; });
  return all;
}

std::string broadcast_bytes(std::string_view mine, int root, Communicator& communicator) {
  std::string bytes_of_root;
  exchange(
      communicator.rank() == root ? mine : std::string_view(), communicator,
      [](const std::vector<std::int64_t>&) {},
      [&](std::size_t, std::string_view bytes) { bytes_of_root += bytes; });
  return bytes_of_root;
}

}  // namespace fathom::parallel
