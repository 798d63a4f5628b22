#include "cli/evaluation_report.h"

#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/json.h"
#include "trainer/generation/text.h"

namespace fathom::cli {
namespace {

using nlohmann::ordered_json;

ordered_json to_json(const rl::MeanOverProblems& mean) {
  ordered_json object;
  object["mean"] = mean.mean;
  object["standard_error"] =
      mean.standard_error ? ordered_json(*mean.standard_error) : ordered_json(nullptr);
  object["num"] = mean.num_problems;
  return object;
}

ordered_json to_json(const std::map<std::int64_t, rl::MeanOverProblems>& by_k) {
  ordered_json object = ordered_json::object();
  for (const auto& [k, mean] : by_k) {
    object[std::to_string(k)] = to_json(mean);
  }
  return object;
}

ordered_json to_json(const rl::ProblemScores& scores) {
  ordered_json object;
  object["num_problems"] = scores.num_problems;
  object["num_samples"] = scores.num_samples;
  object["solve_rate"] = to_json(scores.solve_rate);
  object["pass_at"] = to_json(scores.pass_at);
  object["majority_at"] = to_json(scores.majority_at);
  object["mean_tokens"] = scores.mean_tokens;
  object["cut_off_share"] = scores.cut_off_share;
  return object;
}

void add_texts(const std::vector<TextScore>& texts, std::ostream& out) {
  constexpr int kNumberWidth = 12;
  std::size_t width = std::string("text").size();
  for (const TextScore& text : texts) {
    width = std::max(width, text.path.size());
  }
  const auto row = [&](const std::string& path) -> std::ostream& {
    return out << std::left << std::setw(static_cast<int>(width)) << path << std::right;
  };
  row("text") << std::setw(kNumberWidth) << "tokens" << std::setw(kNumberWidth) << "loss"
              << std::setw(kNumberWidth) << "bits/byte" << '\n';
  for (const TextScore& text : texts) {
    row(text.path) << std::setw(kNumberWidth) << text.result.num_tokens << std::setprecision(4)
                   << std::setw(kNumberWidth) << text.result.loss << std::setw(kNumberWidth)
                   << text.result.bits_per_byte << '\n';
  }
}

void add_mean(const std::string& name, const rl::MeanOverProblems& mean, std::ostream& out) {
  constexpr int kNameWidth = 20;
  out << "  " << std::left << std::setw(kNameWidth) << name << std::right << std::setprecision(4)
      << mean.mean;
  if (mean.standard_error) {
    out << " +- " << *mean.standard_error;
  }
  out << '\n';
}

void add_problems(const std::string& source, const rl::ProblemScores& scores, std::ostream& out) {
  out << source << ": " << scores.num_problems << " problems, "
      << scores.num_samples / scores.num_problems << " samples each\n";
  add_mean("solve rate", scores.solve_rate, out);
  for (const auto& [k, mean] : scores.pass_at) {
    add_mean("pass@" + std::to_string(k), mean, out);
  }
  for (const auto& [k, mean] : scores.majority_at) {
    add_mean("maj@" + std::to_string(k), mean, out);
  }
  out << std::setprecision(1) << "  mean length         " << scores.mean_tokens << " tokens, "
      << 100.0 * scores.cut_off_share << "% of the samples cut off\n";
}

}  // namespace

std::string to_table(const EvaluationReport& report) {
  std::ostringstream out;
  out << std::fixed << report.checkpoint.string() << '\n';
  if (!report.texts.empty()) {
    out << '\n';
    add_texts(report.texts, out);
  }
  if (report.problems) {
    out << '\n';
    add_problems(report.problem_source, *report.problems, out);
  }
  if (report.choices) {
    out << '\n'
        << report.choice_source << ": " << report.choices->questions.size() << " questions\n";
    add_mean("accuracy", report.choices->accuracy, out);
    add_mean("accuracy per byte", report.choices->accuracy_per_byte, out);
  }
  return out.str();
}

ordered_json to_json(const EvaluationReport& report) {
  ordered_json object;
  object["checkpoint"] = report.checkpoint.string();
  for (const TextScore& text : report.texts) {
    object["texts"].push_back({{"path", text.path},
                               {"loss", text.result.loss},
                               {"bits_per_byte", text.result.bits_per_byte},
                               {"num_tokens", text.result.num_tokens}});
  }
  if (report.problems) {
    object["problems"] = to_json(*report.problems);
    object["problems"]["source"] = report.problem_source;
  }
  if (report.choices) {
    object["choices"]["source"] = report.choice_source;
    object["choices"]["accuracy"] = to_json(report.choices->accuracy);
    object["choices"]["accuracy_per_byte"] = to_json(report.choices->accuracy_per_byte);
  }
  return object;
}

std::string sample_line(const rl::Problem& problem, const std::string& prompt,
                        const rl::EvaluatedSample& sample) {
  ordered_json line;
  line["id"] = problem.id;
  line["sample"] = sample.sample;
  line["prompt"] = prompt;
  line["completion"] = sample.text.shown;
  line["answer"] = problem.answer;
  line["extracted"] = sample.judgement.answer;
  line["verdict"] = rl::to_text(sample.judgement.verdict);
  line["rule"] = sample.judgement.reason;
  line["num_tokens"] = sample.completion.tokens.size();
  line["finish"] = trainer::to_text(sample.completion.finish);
  if (!sample.text.stop.empty()) {
    line["stop"] = sample.text.stop;
  }
  return data::json_line(line);
}

std::string question_line(const Question& question, const QuestionScore& score) {
  ordered_json line;
  line["id"] = ordered_json::parse(question.id);
  line["log_likelihoods"] = score.log_likelihoods;
  line["answer"] = question.answer;
  line["chosen"] = score.chosen;
  line["chosen_per_byte"] = score.chosen_per_byte;
  return data::json_line(line);
}

}  // namespace fathom::cli
