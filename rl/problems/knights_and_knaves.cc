#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "core/error.h"
#include "rl/problems/families.h"

namespace fathom::rl {
namespace {

constexpr std::array<const char*, 6> kNames{"Alice", "Bob", "Carol", "Dave", "Eve", "Frank"};

enum class Claim { kKnight, kKnave, kSameKind, kDifferentKinds, kAnyKnave };
constexpr std::int64_t kNumClaims = 5;

// Of the first person alone, or of both; then first < second.
struct Statement {
  Claim claim = Claim::kKnight;
  int first = 0;
  int second = 0;
};
using Puzzle = std::vector<Statement>;  // statement i is what person i says

bool is_about_two(Claim claim) { return claim != Claim::kKnight && claim != Claim::kKnave; }

// `knights` has a bit per person.
bool is_true(const Statement& statement, unsigned knights) {
  const bool first = (knights >> statement.first & 1) != 0;
  const bool second = (knights >> statement.second & 1) != 0;
  switch (statement.claim) {
    case Claim::kKnight:
      return first;
    case Claim::kKnave:
      return !first;
    case Claim::kSameKind:
      return first == second;
    case Claim::kDifferentKinds:
      return first != second;
    case Claim::kAnyKnave:
      return !first || !second;
  }
  return false;
}

std::vector<unsigned> solutions(const Puzzle& puzzle) {
  std::vector<unsigned> found;
  for (unsigned knights = 0; knights < 1U << puzzle.size(); ++knights) {
    bool fits = true;
    for (std::size_t speaker = 0; speaker < puzzle.size(); ++speaker) {
      fits = fits && is_true(puzzle[speaker], knights) == ((knights >> speaker & 1) != 0);
    }
    if (fits) {
      found.push_back(knights);
    }
  }
  return found;
}

Statement draw_statement(Draws& draws, int speaker, int num_people) {
  Statement statement{.claim = static_cast<Claim>(draws.between(0, kNumClaims - 1))};
  // Others than the speaker, or than the first one: numbered without the one left out.
  const auto person_but = [&](int left_out) {
    const int drawn = static_cast<int>(draws.between(0, num_people - 2));
    return drawn < left_out ? drawn : drawn + 1;
  };
  if (!is_about_two(statement.claim)) {
    statement.first = statement.second = person_but(speaker);
    return statement;
  }
  statement.first = static_cast<int>(draws.between(0, num_people - 1));
  statement.second = person_but(statement.first);
  if (statement.first > statement.second) {
    std::swap(statement.first, statement.second);
  }
  return statement;
}

std::string to_text(const Statement& statement) {
  const std::string a = kNames[static_cast<std::size_t>(statement.first)];
  const std::string b = kNames[static_cast<std::size_t>(statement.second)];
  switch (statement.claim) {
    case Claim::kKnight:
      return a + " is a knight.";
    case Claim::kKnave:
      return a + " is a knave.";
    case Claim::kSameKind:
      return concat(a, " and ", b, " are of the same kind.");
    case Claim::kDifferentKinds:
      return concat(a, " and ", b, " are of different kinds.");
    case Claim::kAnyKnave:
      return concat(a, " or ", b, " is a knave, or both are.");
  }
  return "";
}

// The puzzle's shape whatever the people are called: the least of its forms under all ways to give
// the names.
std::string canonical(const Puzzle& puzzle) {
  std::vector<int> renamed(puzzle.size());
  std::iota(renamed.begin(), renamed.end(), 0);
  std::string least;
  do {
    std::string form(3 * puzzle.size(), ' ');
    for (std::size_t speaker = 0; speaker < puzzle.size(); ++speaker) {
      const Statement& statement = puzzle[speaker];
      const auto [first, second] = std::minmax(renamed[static_cast<std::size_t>(statement.first)],
                                               renamed[static_cast<std::size_t>(statement.second)]);
      char* place = &form[3 * static_cast<std::size_t>(renamed[speaker])];
      place[0] = static_cast<char>('0' + static_cast<int>(statement.claim));
      place[1] = static_cast<char>('0' + first);
      place[2] = static_cast<char>('0' + second);
    }
    if (least.empty() || form < least) {
      least = std::move(form);
    }
  } while (std::next_permutation(renamed.begin(), renamed.end()));
  return least;
}

// What each says, under the one assignment that fits: "Bob is a knave: false, so Alice is a knave".
std::string check(const Puzzle& puzzle, unsigned knights) {
  std::string text;
  for (std::size_t speaker = 0; speaker < puzzle.size(); ++speaker) {
    std::string said = to_text(puzzle[speaker]);
    said.pop_back();
    const bool is_knight = (knights >> speaker & 1) != 0;
    text += concat(text.empty() ? "" : "; ", said, is_knight ? ": true, so " : ": false, so ",
                   kNames[speaker], is_knight ? " is a knight" : " is a knave");
  }
  return text;
}

}  // namespace

std::optional<Instance> draw_knights_and_knaves(Draws& draws, int difficulty) {
  Puzzle puzzle;
  for (int speaker = 0; speaker < difficulty; ++speaker) {
    puzzle.push_back(draw_statement(draws, speaker, difficulty));
  }
  const std::vector<unsigned> found = solutions(puzzle);
  if (found.size() != 1) {
    return std::nullopt;
  }
  std::string prompt = "Knights tell the truth, knaves lie.\n";
  std::string answer;
  for (std::size_t person = 0; person < puzzle.size(); ++person) {
    prompt += concat(kNames[person], " says: ", to_text(puzzle[person]), "\n");
    answer += concat(person == 0 ? "" : ", ", kNames[person],
                     (found.front() >> person & 1) != 0 ? " knight" : " knave");
  }
  return Instance{.canonical = canonical(puzzle),
                  .prompt = prompt + "Who is what?\n",
                  .answer = std::move(answer),
                  .verifier = "knights_and_knaves",
                  .thoughts = check(puzzle, found.front())};
}

}  // namespace fathom::rl
