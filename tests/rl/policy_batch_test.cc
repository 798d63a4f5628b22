#include "rl/policy_batch.h"

#include <algorithm>
#include <map>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/catch.h"

namespace fathom::rl {
namespace {

constexpr std::int64_t kLength = 24;
constexpr std::int64_t kVocabulary = 50;

struct Text {
  std::vector<std::int32_t> prompt;
  std::vector<std::int32_t> completion;
};

// Of lengths from the shortest that there are to those that fill a row.
std::vector<Text> make_texts(int count) {
  const RandomSource random(7, "texts");
  std::uint64_t next = 0;
  const auto draw = [&](std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(
                       random.below(next++, static_cast<std::uint64_t>(most - least + 1)));
  };
  const auto draw_tokens = [&](std::int64_t size) {
    std::vector<std::int32_t> tokens;
    for (std::int64_t i = 0; i < size; ++i) {
      tokens.push_back(static_cast<std::int32_t>(draw(1, kVocabulary - 1)));
    }
    return tokens;
  };
  std::vector<Text> texts{{draw_tokens(1), draw_tokens(1)},
                          {draw_tokens(1), draw_tokens(kLength)},
                          {draw_tokens(kLength), draw_tokens(1)}};
  while (std::ssize(texts) < count) {
    const std::int64_t prompt = draw(1, 12);
    texts.push_back({draw_tokens(prompt), draw_tokens(draw(1, kLength + 1 - prompt))});
  }
  texts.resize(static_cast<std::size_t>(count));
  return texts;
}

std::vector<PolicySequence> sequences_of(const std::vector<Text>& texts) {
  std::vector<PolicySequence> sequences;
  for (const Text& text : texts) {
    sequences.push_back({text.prompt, text.completion});
  }
  return sequences;
}

struct Cut {
  std::int64_t data = 1;
  std::int64_t micro_batch_size = 1;
  std::int64_t multiple = 1;
};

std::vector<PolicyBatch> pack(const std::vector<PolicySequence>& sequences, const Cut& cut) {
  std::vector<PolicyBatch> of_ranks;
  for (std::int64_t rank = 0; rank < cut.data; ++rank) {
    of_ranks.push_back(pack_policy_batch(sequences, {.sequence_length = kLength,
                                                     .micro_batch_size = cut.micro_batch_size,
                                                     .num_data_ranks = cut.data,
                                                     .data_rank = rank,
                                                     .micro_batch_multiple = cut.multiple,
                                                     .vocab_size = kVocabulary}));
  }
  return of_ranks;
}

// All that the model is told of one row of tokens.
struct Row {
  std::vector<std::int32_t> tokens, targets, positions, segments;
  std::vector<float> weights;

  bool operator==(const Row&) const = default;
};

std::map<std::int64_t, Row> rows_of(const std::vector<PolicyBatch>& of_ranks) {
  std::map<std::int64_t, Row> rows;
  for (const PolicyBatch& batch : of_ranks) {
    for (const data::MicroBatch& micro_batch : batch.micro_batches) {
      for (std::int64_t i = 0; i < micro_batch.num_sequences; ++i) {
        const std::int64_t begin = i * kLength;
        const auto part = [&](const auto& all) {
          return std::decay_t<decltype(all)>(all.begin() + begin, all.begin() + begin + kLength);
        };
        Row row{part(micro_batch.tokens),
                part(micro_batch.targets),
                part(micro_batch.positions),
                {},
                part(micro_batch.loss_weights)};
        for (const std::int32_t start : micro_batch.segments) {
          if (start >= begin && start < begin + kLength) {
            row.segments.push_back(start - static_cast<std::int32_t>(begin));
          }
        }
        const bool is_new =
            rows.emplace(micro_batch.samples[static_cast<std::size_t>(i)], row).second;
        FATHOM_CHECK(is_new, "a row is there twice");
      }
    }
  }
  return rows;
}

// What a sequence looks like at its place, token by token.
void check_place(const data::MicroBatch& micro_batch, std::int64_t first, const Text& text) {
  const auto begin = first - std::ssize(text.prompt) + 1;
  REQUIRE(begin >= 0);
  std::vector<std::int32_t> all = text.prompt;
  all.insert(all.end(), text.completion.begin(), text.completion.end());
  for (std::size_t i = 0; i + 1 < all.size(); ++i) {
    const auto at = static_cast<std::size_t>(begin) + i;
    CHECK(micro_batch.tokens[at] == all[i]);
    CHECK(micro_batch.positions[at] == static_cast<std::int32_t>(i));
    const bool is_learnt = i + 1 >= text.prompt.size();
    CHECK(micro_batch.loss_weights[at] == (is_learnt ? 1.0F : 0.0F));
    if (is_learnt) {
      CHECK(micro_batch.targets[at] == all[i + 1]);
    }
  }
  // A segment of its own: it begins here, and the next one begins where it ends.
  const auto& segments = micro_batch.segments;
  const auto found = std::find(segments.begin(), segments.end(), begin);
  REQUIRE(found != segments.end());
  CHECK(*std::next(found) == begin + std::ssize(all) - 1);
}

}  // namespace

TEST_CASE("Every token of a completion is a target once, at its place, in a segment of its own") {
  const std::vector<Text> texts = make_texts(40);
  for (const Cut& cut : {Cut{1, 1, 1}, Cut{1, 4, 1}, Cut{2, 3, 2}, Cut{4, 1, 1}}) {
    CAPTURE(cut.data, cut.micro_batch_size);
    std::vector<int> times(texts.size(), 0);
    std::int64_t num_targets = 0;
    const auto of_ranks = pack(sequences_of(texts), cut);
    for (const PolicyBatch& batch : of_ranks) {
      CHECK(batch.micro_batches.size() == of_ranks[0].micro_batches.size());
      CHECK(std::ssize(batch.micro_batches) % cut.multiple == 0);
      REQUIRE(batch.places.size() == batch.micro_batches.size());
      for (std::size_t m = 0; m < batch.places.size(); ++m) {
        std::int64_t last = -1;
        for (const PolicyPlace& place : batch.places[m]) {
          CHECK(place.first_token > last);
          last = place.first_token;
          ++times[place.sequence];
          check_place(batch.micro_batches[m], place.first_token, texts[place.sequence]);
        }
        num_targets += std::count(batch.micro_batches[m].loss_weights.begin(),
                                  batch.micro_batches[m].loss_weights.end(), 1.0F);
      }
    }
    CHECK(std::all_of(times.begin(), times.end(), [](int count) { return count == 1; }));
    std::int64_t num_tokens = 0;
    for (const Text& text : texts) {
      num_tokens += std::ssize(text.completion);
    }
    CHECK(num_targets == num_tokens);  // nothing else is learnt
  }
}

TEST_CASE("Rows do not depend on how they are dealt, those that fill up hold nothing") {
  const auto texts = make_texts(40);
  const auto sequences = sequences_of(texts);
  const auto want = rows_of(pack(sequences, {}));
  const std::int64_t num_rows = pack(sequences, {})[0].num_rows;
  REQUIRE(std::ssize(want) == num_rows);
  for (const Cut& cut : {Cut{1, 4, 1}, Cut{2, 1, 1}, Cut{2, 3, 2}, Cut{4, 8, 4}}) {
    CAPTURE(cut.data, cut.micro_batch_size);
    const auto of_ranks = pack(sequences, cut);
    for (const auto& [number, row] : rows_of(of_ranks)) {
      if (number < num_rows) {
        CHECK(row == want.at(number));
      } else {
        CHECK(row.weights == std::vector<float>(kLength, 0.0F));
      }
    }
    CHECK(of_ranks[0].num_rows == num_rows);
  }
}

TEST_CASE("A batch of one short sequence is a micro-batch on every rank") {
  const auto texts = make_texts(1);
  const auto of_ranks = pack(sequences_of(texts), {3, 2, 1});
  for (const PolicyBatch& batch : of_ranks) {
    CHECK(batch.micro_batches.size() == 1);
    CHECK(batch.num_rows == 1);
  }
  CHECK(of_ranks[0].places[0].size() == 1);
  CHECK(of_ranks[1].places[0].empty());
}

TEST_CASE("A sequence that does not fit into a row, or teaches nothing, is refused") {
  const std::vector<std::int32_t> one{1};
  const std::vector<std::int32_t> many(kLength + 1, 1);
  CHECK_THROWS_AS(pack({{one, many}}, {}), InternalError);
  CHECK_THROWS_AS(pack({{one, {}}}, {}), InternalError);
  CHECK_THROWS_AS(pack({{{}, one}}, {}), InternalError);
}

}  // namespace fathom::rl
