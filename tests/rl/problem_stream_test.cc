#include "rl/problem_stream.h"

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::rl {
namespace {

// `count` problems named PREFIX0, PREFIX1, ...
std::filesystem::path write_problems(const test::TemporaryFolder& folder, const std::string& prefix,
                                     int count) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    const std::string id = concat(prefix, i);
    lines += to_json_line({id, concat("Say ", id, ".\n"), id, "text"}) + '\n';
  }
  const std::filesystem::path path = folder.path() / (prefix + ".jsonl");
  write_file_atomically(path, lines);
  return path;
}

std::vector<std::string> ids(const ProblemStream& stream, std::int64_t begin, std::int64_t end) {
  std::vector<std::string> result;
  for (std::int64_t i = begin; i < end; ++i) {
    result.push_back(stream.at(i).id);
  }
  return result;
}

}  // namespace

TEST_CASE("Every epoch of a file has each of its problems once, in an order of its own") {
  const test::TemporaryFolder folder;
  const ProblemStream stream({{.file = write_problems(folder, "a", 40)}}, 3);
  std::set<std::vector<std::string>> orders;
  for (const std::int64_t epoch : {0, 1, 2, 50}) {
    const auto order = ids(stream, epoch * 40, (epoch + 1) * 40);
    CHECK(std::set<std::string>(order.begin(), order.end()).size() == 40);
    orders.insert(order);
  }
  CHECK(orders.size() == 4);
  CHECK(stream.known().size() == 40);
}

TEST_CASE("A problem is a function of seed and index, whatever was asked before") {
  const test::TemporaryFolder folder;
  const auto file = write_problems(folder, "a", 40);
  const ProblemStream stream({{.file = file}}, 3);
  const auto forwards = ids(stream, 0, 90);
  for (std::int64_t i = 89; i >= 0; --i) {
    REQUIRE(stream.at(i).id == forwards[static_cast<std::size_t>(i)]);
  }
  CHECK(ids(ProblemStream({{.file = file}}, 3), 0, 90) == forwards);
  CHECK(ids(ProblemStream({{.file = file}}, 4), 0, 90) != forwards);
}

TEST_CASE("Problems of a set come as they are numbered") {
  const ProblemSet set{.family = "sorting", .difficulty = 4, .seed = 9};
  const ProblemStream stream({{.set = set}}, 3);
  for (std::int64_t i = 0; i < 20; ++i) {
    CHECK(stream.at(i) == generate_problem(set, static_cast<std::uint64_t>(i)));
  }
  CHECK(stream.known().empty());
}

TEST_CASE("Sources of a mixture take turns by weight and stay the sequences that they are alone") {
  const test::TemporaryFolder folder;
  const ProblemSource heavy{.file = write_problems(folder, "a", 7), .weight = 3};
  const ProblemSource light{.set = {.family = "sorting", .difficulty = 4}, .weight = 1};
  const ProblemStream stream({heavy, light}, 3);
  const ProblemStream alone({heavy}, 3);
  const ProblemStream set_alone({light}, 3);
  std::int64_t num_heavy = 0;
  std::int64_t num_light = 0;
  for (std::int64_t i = 0; i < 400; ++i) {
    const std::string id = stream.at(i).id;
    CHECK(id == (id[0] == 'a' ? alone.at(num_heavy++).id : set_alone.at(num_light++).id));
  }
  CHECK(num_heavy == 300);
}

TEST_CASE("Two files of one mixture do not share their order") {
  const test::TemporaryFolder folder;
  const ProblemStream stream(
      {{.file = write_problems(folder, "a", 30)}, {.file = write_problems(folder, "b", 30)}}, 3);
  std::map<char, std::vector<std::string>> numbers;
  for (const std::string& id : ids(stream, 0, 60)) {
    numbers[id[0]].push_back(id.substr(1));
  }
  CHECK(numbers['a'].size() == 30);
  CHECK(numbers['a'] != numbers['b']);
}

TEST_CASE("The first problems of a source are taken in order") {
  const test::TemporaryFolder folder;
  const ProblemSource file{.file = write_problems(folder, "a", 5)};
  CHECK(take_problems(file, 0).size() == 5);
  CHECK(take_problems(file, 9).size() == 5);
  CHECK(take_problems(file, 2).back().id == "a1");
  const ProblemSource set{.set = {.family = "sorting", .difficulty = 4}};
  CHECK(take_problems(set, 3).at(2) == generate_problem(set.set, 2));
}

TEST_CASE("Sources that cannot be are refused at once") {
  const test::TemporaryFolder folder;
  CHECK_THROWS_AS(ProblemStream({}, 0), ConfigError);
  CHECK_THROWS_AS(ProblemStream({{.set = {.family = "sorting", .difficulty = 1}}}, 0), ConfigError);
  CHECK_THROWS_WITH(ProblemStream({{.set = {.family = "poetry"}}}, 0), Catch::Contains("poetry"));
  CHECK_THROWS_AS(ProblemStream({{.file = folder.path() / "none.jsonl"}}, 0), IoError);
}

}  // namespace fathom::rl
