#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "trainer/metrics.h"
#include "trainer/run_data.h"
#include "trainer/run_progress.h"
#include "trainer/train_step.h"

namespace fathom::trainer {

// One finished step, as it is written down.
struct StepReport {
  const StepResult& result;
  RunProgress progress;  // after the step
  std::int64_t step_tokens = 0;
  std::int64_t num_steps = 0;
  double learning_rate = 0.0;
  double seconds = 0.0;
  std::int64_t peak_bytes = 0;  // largest of all ranks
  std::vector<Metric> more = {};
  std::string shown = {};  // in place of the loss on the terminal; empty: the loss
  double mfu = 0.0;        // model FLOP/s as a share of the devices' peak; 0: not known
};

// What a run tells: a line a step for people, metrics.jsonl and TensorBoard for programs. Rank 0
// alone has one. A file that cannot be written ends no run: its line is lost, which is told once.
class Reporter {
 public:
  using Print = std::function<void(const std::string& line)>;

  Reporter(const std::filesystem::path& run_folder, std::optional<std::int64_t> resume_step,
           Print print);

  void step(const StepReport& report);
  void write(const std::vector<Metric>& metrics);
  // Calls `write_file`, which may throw IoError: then "<what> are not written: why" is told, unless
  // it failed the last time, too.
  void try_to_write(const std::string& what, const std::function<void()>& write_file);
  // Whether the step that the run goes on from has been evaluated.
  bool was_evaluated() const { return metrics_.has_event("eval") || metrics_.has_event("sample"); }
  void evaluation(const RunProgress& progress, const EvaluationResult& result, double seconds);
  void sample(const RunProgress& progress, const std::string& text);
  void checkpoint(std::int64_t step, const std::filesystem::path& folder, double seconds);
  // state_hash: see trainer/state_hash.h; of everything that the run would keep.
  void end(const RunProgress& progress, const std::string& reason, std::uint64_t state_hash);
  void note(const std::string& line) { print_(line); }

 private:
  MetricsWriter metrics_;
  Print print_;
  std::set<std::string> unwritten_;  // what failed the last time
  TimeLeft time_left_;
};

}  // namespace fathom::trainer
