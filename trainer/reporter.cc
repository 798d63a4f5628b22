#include "trainer/reporter.h"

#include <iomanip>
#include <sstream>

#include "core/error.h"
#include "core/hexadecimal.h"

namespace fathom::trainer {

Reporter::Reporter(const std::filesystem::path& run_folder, std::optional<std::int64_t> resume_step,
                   Print print)
    : metrics_(run_folder, resume_step), print_(std::move(print)) {}

void Reporter::write(const std::vector<Metric>& metrics) {
  try_to_write("metrics", [&] { metrics_.write(metrics); });
}

void Reporter::try_to_write(const std::string& what, const std::function<void()>& write_file) {
  try {
    write_file();
    if (unwritten_.erase(what) > 0) {
      print_(what + " are written again");
    }
  } catch (const IoError& error) {
    if (unwritten_.insert(what).second) {
      print_(concat(what, " are not written: ", error.message()));
    }
  }
}

void Reporter::step(const StepReport& report) {
  const StepResult& result = report.result;
  time_left_.add_step(report.seconds);
  const double tokens_per_second = static_cast<double>(report.step_tokens) / report.seconds;
  std::vector<Metric> metrics = {{"step", report.progress.step},
                                 {"tokens", report.progress.tokens},
                                 {"loss", result.loss},
                                 {"loss_hex", hexadecimal(result.loss)},
                                 {"mtp_loss", result.mtp_losses},
                                 {"balance_loss", result.balance_loss},
                                 {"grad_norm", result.grad_norm},
                                 {"grad_norm_hex", hexadecimal(result.grad_norm)},
                                 {"learning_rate", report.learning_rate},
                                 {"tokens_per_s", tokens_per_second},
                                 {"step_ms", report.seconds * 1e3}};
  for (const auto& [phase, milliseconds] : result.phase_ms) {
    metrics.push_back({phase + "_ms", milliseconds});
  }
  for (const auto& [axis, bytes] : result.bytes_sent) {
    metrics.push_back({"bytes_sent_" + axis, bytes});
  }
  for (const auto& [layer, load] : result.expert_load) {
    metrics.push_back({concat("expert_load_layer_", layer), load});
  }
  if (report.mfu > 0) {
    metrics.push_back({"mfu", report.mfu});
  }
  metrics.insert(metrics.end(), report.more.begin(), report.more.end());
  metrics.push_back({"peak_memory_bytes", report.peak_bytes});
  metrics.push_back({"skipped_steps", report.progress.skipped_steps});
  write(metrics);

  print_(format_step_line({report.progress.step, report.num_steps, result.loss, result.grad_norm,
                           report.learning_rate, tokens_per_second,
                           time_left_.seconds_left(report.num_steps - report.progress.step),
                           report.shown, report.mfu}));
  if (!result.is_finite) {
    const std::string refused = result.num_refused == 0
                                    ? ""
                                    : concat("; ", result.num_refused,
                                             " contributions to gradients are not numbers or are "
                                             "too large for numerics.gradient_fraction_bits");
    print_(concat("step ", report.progress.step, " skipped: its loss or gradient is not finite",
                  refused, " (", report.progress.skipped_in_a_row, " in a row, ",
                  report.progress.skipped_steps, " in all)"));
  }
}

void Reporter::evaluation(const RunProgress& progress, const EvaluationResult& result,
                          double seconds) {
  write({{"event", std::string("eval")},
         {"step", progress.step},
         {"tokens", progress.tokens},
         {"loss", result.loss},
         {"bits_per_byte", result.bits_per_byte},
         {"eval_tokens", result.num_tokens},
         {"eval_ms", seconds * 1e3}});
  std::ostringstream line;
  line << std::fixed << std::setprecision(4) << "held-out text: loss " << result.loss << ", "
       << result.bits_per_byte << " bits per byte";
  print_(line.str());
}

void Reporter::sample(const RunProgress& progress, const std::string& text) {
  write({{"event", std::string("sample")}, {"step", progress.step}, {"text", text}});
  print_("sample: " + text);
}

void Reporter::checkpoint(std::int64_t step, const std::filesystem::path& folder, double seconds) {
  write({{"event", std::string("checkpoint")},
         {"step", step},
         {"folder", folder.string()},
         {"save_ms", seconds * 1e3}});
  std::ostringstream line;
  line << "checkpoint " << folder.string() << " (" << std::fixed << std::setprecision(2) << seconds
       << " s)";
  print_(line.str());
}

void Reporter::end(const RunProgress& progress, const std::string& reason,
                   std::uint64_t state_hash) {
  write({{"event", std::string("end")},
         {"step", progress.step},
         {"tokens", progress.tokens},
         {"skipped_steps", progress.skipped_steps},
         {"reason", reason},
         {"state_hash", hexadecimal(state_hash)}});
}

}  // namespace fathom::trainer
