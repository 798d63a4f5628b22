#include "trainer/metrics.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace fathom;
using namespace fathom::trainer;

namespace {

std::vector<nlohmann::ordered_json> lines_of(const std::filesystem::path& run_folder) {
  std::istringstream in(read_file(run_folder / "metrics.jsonl"));
  std::vector<nlohmann::ordered_json> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back(nlohmann::ordered_json::parse(line));
  }
  return lines;
}

std::vector<std::int64_t> steps_of(const std::filesystem::path& run_folder) {
  std::vector<std::int64_t> steps;
  for (const auto& line : lines_of(run_folder)) {
    steps.push_back(line["step"]);
  }
  return steps;
}

void write_steps(MetricsWriter& writer, std::int64_t first, std::int64_t last) {
  for (std::int64_t step = first; step <= last; ++step) {
    writer.write({{"step", step}, {"loss", 1.0 / static_cast<double>(step)}});
  }
}

}  // namespace

TEST_CASE("a line keeps the order and every digit of its numbers") {
  const test::TemporaryFolder folder;
  MetricsWriter writer(folder.path(), std::nullopt);
  const double third = 1.0 / 3.0;
  writer.write({{"step", 7},
                {"loss", third},
                {"tiny", 5e-324},
                {"tokens", std::int64_t{1} << 62},
                {"event", "say \"hi\"\n"},
                {"load", std::vector<double>{1.5, 0.1, std::nan("")}},
                {"nan", std::nan("")},
                {"infinite", -std::numeric_limits<double>::infinity()},
                {"none", std::vector<double>{}}});
  CHECK(
      read_file(folder.path() / "metrics.jsonl") ==
      "{\"step\": 7, \"loss\": 0.3333333333333333, \"tiny\": 5e-324, \"tokens\": "
      "4611686018427387904, \"event\": \"say \\\"hi\\\"\\n\", \"load\": [1.5, 0.1, null], \"nan\": "
      "null, "
      "\"infinite\": null, \"none\": []}\n");
  const auto line = lines_of(folder.path()).at(0);
  CHECK(line["loss"].get<double>() == third);
  CHECK(line["tiny"].get<double>() == 5e-324);
}

TEST_CASE("a line is on disk as soon as it is written") {
  const test::TemporaryFolder folder;
  MetricsWriter writer(folder.path(), std::nullopt);
  write_steps(writer, 1, 1);
  CHECK(steps_of(folder.path()) == std::vector<std::int64_t>{1});
  CHECK_THROWS_AS(writer.write({{"loss", 1.0}}), InternalError);
  CHECK_THROWS_AS(writer.write({{"step", 1.0}}), InternalError);
}

TEST_CASE("resuming from step N leaves no step twice and no line of an end") {
  const test::TemporaryFolder folder;
  {
    MetricsWriter writer(folder.path(), std::nullopt);
    write_steps(writer, 1, 4);
    writer.write({{"step", 4}, {"event", "eval"}, {"loss", 2.0}});
    write_steps(writer, 5, 9);
    writer.write({{"step", 4}, {"event", "end"}});
  }
  {
    MetricsWriter writer(folder.path(), 4);
    CHECK(steps_of(folder.path()) == std::vector<std::int64_t>{1, 2, 3, 4, 4});
    CHECK(writer.has_event("eval"));
    CHECK_FALSE(writer.has_event("end"));
    write_steps(writer, 5, 6);
    CHECK(steps_of(folder.path()) == std::vector<std::int64_t>{1, 2, 3, 4, 4, 5, 6});
  }
  CHECK_FALSE(MetricsWriter(folder.path(), 3).has_event("eval"));
  MetricsWriter again(folder.path(), std::nullopt);
  CHECK(lines_of(folder.path()).empty());
  CHECK_FALSE(again.has_event("eval"));
}

TEST_CASE("a line torn by a crash is dropped on resume") {
  const test::TemporaryFolder folder;
  const std::string whole = "{\"step\": 1, \"loss\": 2.5}\n";
  for (const std::string torn :
       {"{\"step\": 2, \"lo", "{\"step\": 2}", "nonsense\n", "[1]\n", "\n"}) {
    write_file_atomically(folder.path() / "metrics.jsonl", whole + torn);
    MetricsWriter writer(folder.path(), 5);
    CHECK(read_file(folder.path() / "metrics.jsonl") == whole);
  }
}

TEST_CASE("resuming where there is no file yet starts one") {
  const test::TemporaryFolder folder;
  MetricsWriter writer(folder.path(), 3);
  write_steps(writer, 4, 4);
  CHECK(steps_of(folder.path()) == std::vector<std::int64_t>{4});
}

TEST_CASE("the terminal's line is aligned from step to step") {
  StepLine line{120, 1000, 3.41213, 0.9123, 2.91e-4, 41234, 192};
  CHECK(format_step_line(line) ==
        "step   120/1000  loss  3.4121  grad   0.91  lr 2.9e-04   41.2k tok/s  left 3m12s");
  line.mfu = 0.4149;
  CHECK(
      format_step_line(line) ==
      "step   120/1000  loss  3.4121  grad   0.91  lr 2.9e-04   41.2k tok/s  mfu 41%  left 3m12s");
  line.mfu = 0.0;
  const StepLine wide{9, 1000, 11.5, 123.456, 1e-5, 1.26e6, 7};
  CHECK(format_step_line(wide) ==
        "step     9/1000  loss 11.5000  grad 123.46  lr 1.0e-05    1.3M tok/s  left 7s");
  line.loss = std::nan("");
  line.grad_norm = std::numeric_limits<double>::infinity();
  line.seconds_left = std::nan("");
  CHECK(format_step_line(line) ==
        "step   120/1000  loss     nan  grad    inf  lr 2.9e-04   41.2k tok/s  left ?");
}

TEST_CASE("durations are short and round to seconds") {
  CHECK(format_duration(0.2) == "0s");
  CHECK(format_duration(59.6) == "1m00s");
  CHECK(format_duration(192) == "3m12s");
  CHECK(format_duration(3600 + 5 * 60) == "1h05m");
  CHECK(format_duration(3 * 86400 + 4 * 3600) == "3d04h");
  CHECK(format_duration(-1) == "?");
}

TEST_CASE("the time left follows the recent steps and forgets the slow first one") {
  TimeLeft time;
  CHECK(time.seconds_left(10) == 0.0);
  time.add_step(5.0);
  CHECK(time.seconds_left(10) == Approx(50.0));
  time.add_step(1.0);
  CHECK(time.seconds_left(10) == Approx(10.0));
  time.add_step(2.0);
  CHECK(time.seconds_left(10) == Approx(15.0));
  for (int i = 0; i < 200; ++i) {
    time.add_step(3.0);
  }
  CHECK(time.seconds_left(1) == Approx(3.0).epsilon(1e-3));
}
