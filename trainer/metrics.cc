#include "trainer/metrics.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>

#include "core/error.h"
#include "data/json.h"

namespace fathom::trainer {
namespace {

template <class... Options>
std::string characters_of(Options... options) {
  std::array<char, 64> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), options...);
  FATHOM_CHECK(result.ec == std::errc(), "a number of more than ", buffer.size(), " characters");
  return {buffer.data(), result.ptr};
}

// A writer of JSON values; the shortest digits that read back as the same double.
struct JsonText {
  std::string operator()(std::int64_t value) const { return characters_of(value); }
  std::string operator()(double value) const {
    return std::isfinite(value) ? characters_of(value) : "null";
  }
  std::string operator()(const std::string& value) const {
    return data::json_line(nlohmann::json(value));
  }
  std::string operator()(const std::vector<double>& values) const {
    std::string text = "[";
    for (const double value : values) {
      text += text.size() > 1 ? ", " : "";
      text += (*this)(value);
    }
    return text + "]";
  }
};

const MetricValue* find(const std::vector<Metric>& metrics, std::string_view name) {
  const auto found = std::find_if(metrics.begin(), metrics.end(),
                                  [&](const Metric& metric) { return metric.name == name; });
  return found == metrics.end() ? nullptr : &found->value;
}

std::vector<Scalar> curves_of(const std::vector<Metric>& metrics) {
  const MetricValue* event = find(metrics, "event");
  const std::string* kind = event == nullptr ? nullptr : std::get_if<std::string>(event);
  std::vector<Scalar> curves;
  for (const Metric& metric : metrics) {
    const std::string tag = concat(kind != nullptr ? *kind : "train", "/", metric.name);
    if (metric.name == "step") {
      continue;
    }
    if (const auto* integer = std::get_if<std::int64_t>(&metric.value)) {
      curves.push_back({tag, static_cast<float>(*integer)});
    } else if (const auto* number = std::get_if<double>(&metric.value)) {
      curves.push_back({tag, static_cast<float>(*number)});
    } else if (const auto* list = std::get_if<std::vector<double>>(&metric.value)) {
      for (std::size_t i = 0; i < list->size(); ++i) {
        curves.push_back({concat(tag, '_', i), static_cast<float>((*list)[i])});
      }
    }
  }
  return curves;
}

std::string padded(const std::string& text, std::size_t width) {
  return std::string(width > text.size() ? width - text.size() : 0, ' ') + text;
}

std::string scientific(double value) {
  return characters_of(value, std::chars_format::scientific, 1);
}

// "41.2k", "950.0", "1.3M".
std::string with_prefix(double value) {
  const std::array<std::string_view, 4> prefixes{"", "k", "M", "G"};
  std::size_t index = 0;
  for (; value >= 999.95 && index + 1 < prefixes.size(); ++index) {
    value /= 1000;
  }
  return value >= 999.95 ? scientific(value) : fixed(value, 1).append(prefixes[index]);
}

}  // namespace

std::string fixed(double value, int digits) {
  return characters_of(value, std::chars_format::fixed, digits);
}

MetricsWriter::MetricsWriter(const std::filesystem::path& run_folder,
                             std::optional<std::int64_t> resume_step)
    : lines_(run_folder / "metrics.jsonl", resume_step),
      events_(run_folder / "tensorboard", resume_step ? *resume_step + 1 : 0) {}

void MetricsWriter::write(const std::vector<Metric>& metrics) {
  const MetricValue* step = find(metrics, "step");
  FATHOM_CHECK(step != nullptr && std::holds_alternative<std::int64_t>(*step),
               "a line of metrics without an integer \"step\"");
  std::string line = "{";
  for (const Metric& metric : metrics) {
    line += line.size() > 1 ? ", " : "";
    line += JsonText()(metric.name) + ": " + std::visit(JsonText(), metric.value);
  }
  lines_.append(line + "}");
  events_.scalars(std::get<std::int64_t>(*step), curves_of(metrics));
  events_.flush();
}

std::string format_step_line(const StepLine& line) {
  const std::string num_steps = characters_of(line.num_steps);
  const std::string grad =
      line.grad_norm < 1000 ? fixed(line.grad_norm, 2) : scientific(line.grad_norm);
  const std::string loss = line.loss < 10000 ? fixed(line.loss, 4) : scientific(line.loss);
  return concat("step ", padded(characters_of(line.step), num_steps.size() + 1), "/", num_steps,
                "  ", line.shown.empty() ? concat("loss ", padded(loss, 7)) : line.shown, "  grad ",
                padded(grad, 6), "  lr ", scientific(line.learning_rate), "  ",
                padded(with_prefix(line.tokens_per_second), 6), " tok/s",
                line.mfu > 0 ? concat("  mfu ", padded(fixed(100 * line.mfu, 0), 2), '%') : "",
                "  left ", format_duration(line.seconds_left));
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) {
    return "?";
  }
  const auto total = static_cast<std::int64_t>(std::llround(seconds));
  const auto two_digits = [](std::int64_t value) {
    std::string digits = characters_of(value);
    return digits.insert(0, digits.size() < 2 ? 1 : 0, '0');
  };
  if (total < 60) {
    return concat(total, "s");
  }
  if (total < 3600) {
    return concat(total / 60, "m", two_digits(total % 60), "s");
  }
  if (total < 86400) {
    return concat(total / 3600, "h", two_digits(total / 60 % 60), "m");
  }
  return concat(total / 86400, "d", two_digits(total / 3600 % 24), "h");
}

void TimeLeft::add_step(double seconds) noexcept {
  ++num_steps_;
  // A plain mean at first, then one that forgets: about the last 20 steps. The second step replaces
  // the first.
  const double weight =
      std::max(1.0 / static_cast<double>(std::max<std::int64_t>(1, num_steps_ - 1)), 0.05);
  mean_seconds_ += weight * (seconds - mean_seconds_);
}

double TimeLeft::seconds_left(std::int64_t steps_left) const noexcept {
  return mean_seconds_ * static_cast<double>(steps_left);
}

}  // namespace fathom::trainer
