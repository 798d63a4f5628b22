#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "rl/problems/generator.h"
#include "tests/support/catch.h"

namespace fathom::rl {
namespace {

using Kinds = std::map<std::string, bool>;  // true: a knight

struct Speech {
  std::string speaker;
  std::vector<std::string> words;  // without the last point
};

std::vector<Speech> speeches_of(const std::string& prompt) {
  std::vector<Speech> speeches;
  std::istringstream lines(prompt);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t says = line.find(" says: ");
    if (says == std::string::npos) {
      continue;
    }
    std::istringstream words(line.substr(says + 7, line.size() - says - 8));
    Speech speech{line.substr(0, says), {}};
    for (std::string word; words >> word;) {
      speech.words.push_back(word);
    }
    speeches.push_back(speech);
  }
  return speeches;
}

// What the words claim, read as a person would.
bool holds(const std::vector<std::string>& words, const Kinds& kinds) {
  const bool a = kinds.at(words[0]);
  if (words[1] == "is") {
    return a == (words[3] == "knight");
  }
  const bool b = kinds.at(words[2]);
  if (words[1] == "or") {
    return !(a && b);
  }
  return words[5] == "different" ? a != b : a == b;
}

std::string solution_text(const std::vector<Speech>& speeches, const Kinds& kinds) {
  std::string text;
  for (const Speech& speech : speeches) {
    text += concat(text.empty() ? "" : ", ", speech.speaker,
                   kinds.at(speech.speaker) ? " knight" : " knave");
  }
  return text;
}

}  // namespace

TEST_CASE("Knights and knaves: the answer is the one assignment that fits what is said") {
  for (int difficulty = 2; difficulty <= 6; ++difficulty) {
    std::set<std::string> answers;
    for (std::uint64_t index = 0; index < 200; ++index) {
      const Problem problem =
          generate_problem({.family = "knights_and_knaves", .difficulty = difficulty}, index);
      INFO(problem.prompt);
      const std::vector<Speech> speeches = speeches_of(problem.prompt);
      REQUIRE(speeches.size() == static_cast<std::size_t>(difficulty));
      std::vector<std::string> found;
      for (int assignment = 0; assignment < 1 << difficulty; ++assignment) {
        Kinds kinds;
        for (int person = 0; person < difficulty; ++person) {
          kinds[speeches[static_cast<std::size_t>(person)].speaker] =
              (assignment >> person) % 2 == 1;
        }
        bool fits = true;
        for (const Speech& speech : speeches) {
          fits = fits && holds(speech.words, kinds) == kinds[speech.speaker];
        }
        if (fits) {
          found.push_back(solution_text(speeches, kinds));
        }
      }
      CHECK(found == std::vector<std::string>{problem.answer});
      answers.insert(problem.answer);
    }
    // No answer can be guessed by always saying the same.
    CHECK(answers.size() >= static_cast<std::size_t>(difficulty));
  }
}

TEST_CASE("Other names for the same people do not make a held-out problem") {
  // Two people: the whole family, with Alice and Bob exchanged.
  const auto exchanged = [](const std::string& prompt) {
    const std::vector<Speech> speeches = speeches_of(prompt);
    std::set<std::string> lines;
    for (const Speech& speech : speeches) {
      std::string line = speech.speaker == "Alice" ? "Bob says:" : "Alice says:";
      const bool is_pair = speech.words[1] != "is";
      for (std::size_t i = 0; i < speech.words.size(); ++i) {
        const std::string& word = speech.words[i];
        // A pair is named in alphabetical order either way.
        const bool is_name = word == "Alice" || word == "Bob";
        line += " " + (is_name && !is_pair ? (word == "Alice" ? "Bob" : "Alice") : word);
      }
      lines.insert(line);
    }
    std::string all;
    for (const std::string& line : lines) {
      all += line + ".\n";
    }
    return "Knights tell the truth, knaves lie.\n" + all + "Who is what?\n";
  };
  std::set<std::string> trained;
  for (std::uint64_t index = 0; index < 500; ++index) {
    trained.insert(
        generate_problem({.family = "knights_and_knaves", .difficulty = 2}, index).prompt);
  }
  int num_seen = 0;
  for (const std::string& prompt : trained) {
    num_seen += static_cast<int>(trained.count(exchanged(prompt)));
  }
  CHECK(num_seen > 2);  // the exchange gives prompts as the family writes them
  for (std::uint64_t index = 0; index < 50; ++index) {
    const Problem problem = generate_problem(
        {.family = "knights_and_knaves", .difficulty = 2, .split = Split::kHeldOut}, index);
    CHECK(trained.count(problem.prompt) == 0);
    CHECK(trained.count(exchanged(problem.prompt)) == 0);
  }
}

}  // namespace fathom::rl
