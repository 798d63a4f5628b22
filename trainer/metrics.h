#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "trainer/json_lines.h"
#include "trainer/tensorboard.h"

namespace fathom::trainer {

// An integer, a number, a text, or a list of numbers. Numbers that are not finite are written as
// null.
using MetricValue = std::variant<std::int64_t, double, std::string, std::vector<double>>;

struct Metric {
  std::string name;  // with its unit: "step_ms"
  MetricValue value;
};

// The numbers of a run: one line of JSON a call in `metrics.jsonl` of the run folder, and curves
// for TensorBoard in its folder `tensorboard`. One rank of a run has one. All functions throw
// IoError naming the file.
class MetricsWriter {
 public:
  // resume_step: see JsonLines.
  MetricsWriter(const std::filesystem::path& run_folder, std::optional<std::int64_t> resume_step);

  // Appends {"<name>": <value>, ...} in the given order; one name must be "step", an integer.
  // Integers and numbers other than "step" become curves named "train/<name>", or "<event>/<name>"
  // in a line that has a text named "event"; a list becomes one for each of its numbers,
  // "train/<name>_0" the first.
  void write(const std::vector<Metric>& metrics);
  // See JsonLines.
  bool has_event(std::string_view name) const { return lines_.has_event(name); }

 private:
  JsonLines lines_;
  EventWriter events_;
};

// What the terminal shows of one step.
struct StepLine {
  std::int64_t step = 0;
  std::int64_t num_steps = 0;
  double loss = 0;  // nats a token
  double grad_norm = 0;
  double learning_rate = 0;
  double tokens_per_second = 0;
  double seconds_left = 0;
  std::string shown = {};  // in place of the loss
  double mfu = 0;          // share of the devices' peak; 0: not shown
};

// "step   120/1000  loss 3.4121  grad 0.91  lr 2.9e-04  41.2k tok/s  mfu 41%  left 3m12s", columns
// aligned from line to line.
std::string format_step_line(const StepLine& line);

// With so many digits after the point.
std::string fixed(double value, int digits);

// "45s", "3m12s", "2h05m", "3d04h".
std::string format_duration(double seconds);

// Estimates the time that the remaining steps take from the recent ones; the first step, which also
// warms up, counts only until there is another.
class TimeLeft {
 public:
  void add_step(double seconds) noexcept;
  double seconds_left(std::int64_t steps_left) const noexcept;

 private:
  double mean_seconds_ = 0;
  std::int64_t num_steps_ = 0;
};

}  // namespace fathom::trainer
