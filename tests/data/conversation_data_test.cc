#include "data/conversation_data.h"

#include <algorithm>
#include <set>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::data {
namespace {

using test::kAssistant;
using test::kBegin;
using test::kEnd;
using test::kPad;
using test::kUser;
using Tokens = std::vector<std::int32_t>;

std::string line(const std::string& prompt, const std::string& completion) {
  return concat("{\"prompt\": \"", prompt, "\", \"completion\": \"", completion, "\"}\n");
}

class Fixture {
 public:
  explicit Fixture(const std::string& content) { write_file_atomically(path(), content); }
  std::filesystem::path path() const { return folder_.path() / "chats.jsonl"; }
  ConversationData training(const ConversationDataOptions& options, DocumentOrder order) const {
    return ConversationData({{"", {path()}, 1.0}}, order, 3, tokenizer_, options);
  }
  HeldOutConversations held_out(const ConversationDataOptions& options) const {
    return HeldOutConversations({path()}, tokenizer_, options);
  }

 private:
  test::TemporaryFolder folder_;
  Tokenizer tokenizer_ = test::byte_tokenizer();
};

template <class T>
std::vector<T> copy(std::span<const T> values) {
  return {values.begin(), values.end()};
}

TEST_CASE("Whole conversations share a sequence, isolated, and only answers are targets") {
  // Of 6, 5 and 8 tokens; 12 fit a sequence of 11: the first two share one.
  const Fixture fixture(line("a", "b") + line("", "x") + line("ab", "cd"));
  const ConversationData data =
      fixture.training({.sequence_length = 11, .mtp_depth = 1}, DocumentOrder::kAsStored);
  REQUIRE(data.sources()[0].conversations.num_sequences() == 2);
  MicroBatch batch;
  data.read(0, 2, batch);
  CHECK(batch.tokens == Tokens{kBegin, kUser, 'a',        kAssistant, 'b',        kEnd,
                               kBegin, kUser, kAssistant, 'x',        kEnd,  //
                               kBegin, kUser, 'a',        'b',        kAssistant, 'c',
                               'd',    kEnd,  kBegin,     kUser,      'a'});
  CHECK(batch.segments == Tokens{0, 6, 11, 19, 22});  // what is left over begins once more
  CHECK(batch.positions ==
        Tokens{0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2});
  CHECK(copy(batch.weights_at(0)) == std::vector<float>{0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0,  //
                                                        0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0});
  CHECK(copy(batch.weights_at(1)) == std::vector<float>{0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0,  //
                                                        0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0});
  CHECK(batch.targets_at(0)[3] == 'b');
  CHECK(batch.targets_at(0)[4] == kEnd);
  CHECK(batch.targets_at(1)[2] == 'b');
  CHECK(batch.target_bytes == Tokens{0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0,  //
                                     0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0});
}

TEST_CASE("What is left of a sequence repeats its conversations, each by itself, without targets") {
  // Of 6 and 5 tokens, which 25 hold twice, and the first 3 tokens once more.
  const Fixture fixture(line("a", "b") + line("", "x"));
  MicroBatch batch;
  fixture.held_out({.sequence_length = 25}).read(0, 1, batch);
  CHECK(batch.tokens ==
        Tokens{kBegin, kUser, 'a', kAssistant, 'b', kEnd, kBegin, kUser, kAssistant, 'x', kEnd,
               kBegin, kUser, 'a', kAssistant, 'b', kEnd, kBegin, kUser, kAssistant, 'x', kEnd,
               kBegin, kUser, 'a'});
  CHECK(batch.segments == Tokens{0, 6, 11, 17, 22, 25});
  std::vector<float> weights(25, 0.0F);
  weights[3] = weights[4] = weights[8] = weights[9] = 1.0F;
  CHECK(batch.loss_weights == weights);
}

TEST_CASE("A conversation that fills a sequence has its last token as a target alone") {
  const Fixture fixture(line("a", "b"));
  MicroBatch batch;
  fixture.held_out({.sequence_length = 5}).read(0, 1, batch);
  CHECK(batch.tokens == Tokens{kBegin, kUser, 'a', kAssistant, 'b'});
  CHECK(batch.targets == Tokens{kUser, 'a', kAssistant, 'b', kEnd});
  CHECK(batch.loss_weights == std::vector<float>{0, 0, 0, 1, 1});
  CHECK(batch.segments == Tokens{0, 5});
}

TEST_CASE("Too long conversations are truncated or dropped, and counted") {
  // 8 tokens of which 7 fit; 13 tokens whose answer does not fit; 6 tokens.
  const Fixture fixture(line("ab", "cd") + line("abcdefgh", "x") + line("a", "b"));
  const HeldOutConversations truncated = fixture.held_out({.sequence_length = 6});
  const ConversationCounts& counts = truncated.conversations().counts();
  CHECK(counts.conversations == 3);
  CHECK(counts.truncated == 1);
  CHECK(counts.dropped == 1);
  CHECK(counts.tokens == 7 + 6);
  CHECK(counts.response_tokens == 2 + 2);
  MicroBatch batch;
  truncated.read(0, 1, batch);
  CHECK(batch.targets == Tokens{kUser, 'a', 'b', kAssistant, 'c', 'd'});
  CHECK(batch.loss_weights == std::vector<float>{0, 0, 0, 0, 1, 1});

  const HeldOutConversations dropped =
      fixture.held_out({.too_long = TooLong::kDrop, .sequence_length = 6});
  CHECK(dropped.conversations().counts().truncated == 0);
  CHECK(dropped.conversations().counts().dropped == 2);
  CHECK(dropped.num_sequences() == 1);
  CHECK_THROWS_AS(fixture.held_out({.sequence_length = 3}), ConfigError);  // nothing is left
}

TEST_CASE("A hash of the contents tells conversations apart, and not the length of sequences") {
  const auto contents_of = [](const std::string& content, std::int64_t sequence_length) {
    return Fixture(content)
        .training({.sequence_length = sequence_length}, DocumentOrder::kAsStored)
        .sources()[0]
        .conversations.contents();
  };
  const std::uint64_t before = contents_of(line("a", "b") + line("ab", "cd"), 11);
  CHECK(contents_of(line("a", "b") + line("ab", "cd"), 6) == before);
  CHECK(contents_of(line("a", "b") + line("ab", "ce"), 11) != before);
  CHECK(contents_of(line("ab", "cd") + line("a", "b"), 11) != before);
}

TEST_CASE("An epoch reads every sequence once, another one in another order") {
  std::string content;
  for (char c = 'A'; c <= 'Z'; ++c) {
    content += line("q", std::string(1, c));
  }
  const Fixture fixture(content);
  const ConversationDataOptions options = {.sequence_length = 8};
  const ConversationData data = fixture.training(options, DocumentOrder::kShuffled);
  std::vector<Tokens> epochs[3];
  MicroBatch batch;
  for (std::int64_t i = 0; i < 3 * 26; ++i) {
    data.read(i, 1, batch);
    CHECK(batch.samples == std::vector<std::int64_t>{i});
    epochs[i / 26].push_back(batch.tokens);
  }
  CHECK(epochs[0] != epochs[1]);
  CHECK(epochs[1] != epochs[2]);
  for (const auto& epoch : epochs) {
    CHECK(std::set<Tokens>(epoch.begin(), epoch.end()).size() == 26);
  }
  // A sample is a function of its index, whatever was read before.
  fixture.training(options, DocumentOrder::kShuffled).read(50, 1, batch);
  CHECK(batch.tokens == epochs[1][50 - 26]);
}

TEST_CASE("Held-out conversations end with padding that counts nothing") {
  const Fixture fixture(line("a", "b") + line("c", "d"));
  const HeldOutConversations data = fixture.held_out({.sequence_length = 7});
  REQUIRE(data.num_sequences() == 2);
  MicroBatch batch;
  data.read(1, 2, batch);
  CHECK(batch.tokens[2] == 'c');
  CHECK(batch.segments == Tokens{0, 6, 7, 14});
  CHECK(std::count(batch.loss_weights.begin(), batch.loss_weights.end(), 1.0F) == 2);
  CHECK(batch.tokens[7] == kPad);
}

TEST_CASE("Conversations that teach nothing are refused with their line") {
  CHECK_THROWS_AS(Fixture("").held_out({.sequence_length = 8}), ConfigError);
  CHECK_THROWS_AS(Fixture("\n").held_out({.sequence_length = 8}), ConfigError);
  ConversationDataOptions bare = {.sequence_length = 8};
  bare.markers = {.begin = "", .user = "", .assistant = ""};
  const Fixture fixture(line("a", "b") + line("", ""));
  try {
    fixture.held_out(bare);
    FAIL("a lone end of sentence was taken for a conversation");
  } catch (const ConfigError& error) {
    CHECK(error.message().find("chats.jsonl:2: nothing stands before its answer") !=
          std::string::npos);
  }
}

}  // namespace
}  // namespace fathom::data
