#include "configs/validate.h"

#include <google/protobuf/message.h>

#include <cmath>

#include "configs/rules.h"

namespace fathom::config {
namespace {

namespace pb = google::protobuf;

constexpr int kMaxThreads = 4096;

void check_finite(const pb::Message& message, const std::string& prefix, Problems& problems) {
  const pb::Reflection& reflection = *message.GetReflection();
  std::vector<const pb::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const pb::FieldDescriptor* field : fields) {
    const std::string name = prefix + field->name();
    if (field->cpp_type() == pb::FieldDescriptor::CPPTYPE_DOUBLE && !field->is_repeated()) {
      const double value = reflection.GetDouble(message, field);
      problems.require(std::isfinite(value), name, " (", value, ") is not a finite number");
    } else if (field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE && field->is_repeated()) {
      for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
        check_finite(reflection.GetRepeatedMessage(message, field, i), concat(name, '[', i, "]."),
                     problems);
      }
    } else if (field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE) {
      check_finite(reflection.GetMessage(message, field), name + ".", problems);
    }
  }
}

void check_run(const Run& run, Problems& problems) {
  problems.require(!run.directory().empty(), "run.directory is not set");
  problems.require(run.threads() >= 0 && run.threads() <= kMaxThreads, "run.threads (",
                   run.threads(), ") is not in [0, ", kMaxThreads, ']');
}

void check_data(const Data& data, Problems& problems) {
  problems.require(data.train_size() > 0, "data.train is empty: give at least one { path: ... }");
  for (int i = 0; i < data.train_size(); ++i) {
    const std::string name = concat("data.train[", i, ']');
    problems.require(!data.train(i).path().empty(), name, ".path is not set");
    require_positive(problems, name + ".weight", data.train(i).weight());
  }
  for (int i = 0; i < data.validation_size(); ++i) {
    problems.require(!data.validation(i).empty(), "data.validation[", i, "] is empty");
  }
  problems.require(data.fim_rate() >= 0 && data.fim_rate() <= 1, "data.fim_rate (", data.fim_rate(),
                   ") is not in [0, 1]");
}

// What fine-tuning asks of the data beside what every run does.
void check_conversations(const Data& data, Problems& problems) {
  const Chat& chat = data.chat();
  problems.require(!data.tokenizer().empty(),
                   "data.tokenizer is not set: conversations are tokenized with that of the "
                   "weights' own training");
  problems.require(!(data.fim_rate() > 0), "data.fim_rate (", data.fim_rate(),
                   ") is for pretraining: conversations are not rearranged");
  problems.require(!chat.has_end() || !chat.end().empty(),
                   "data.chat.end is empty: an answer would never end");
  problems.require(chat.user().empty() || chat.user() != chat.assistant(),
                   "data.chat.user and data.chat.assistant are both \"", chat.user(),
                   "\": nothing would tell question and answer apart");
}

void check_evaluation(const RunConfig& config, Use use, Problems& problems) {
  const Evaluation& evaluation = config.evaluation();
  require_not_negative(problems, "evaluation.interval", static_cast<double>(evaluation.interval()));
  require_not_negative(problems, "evaluation.num_sequences",
                       static_cast<double>(evaluation.num_sequences()));
  require_not_negative(problems, "evaluation.temperature", evaluation.temperature());
  if (evaluation.prompts_size() > 0) {
    require_size(problems, "evaluation.sample_tokens", evaluation.sample_tokens());
    problems.require(!config.data().tokenizer().empty(), "evaluation.prompts (",
                     evaluation.prompts_size(), ") need data.tokenizer");
  }
  const bool is_reinforcement = use == Use::kReinforcement;
  problems.require(
      evaluation.interval() <= 0 ||
          (is_reinforcement ? config.grpo().held_out_size() > 0
                            : evaluation.prompts_size() > 0 || config.data().validation_size() > 0),
      "evaluation.interval (", evaluation.interval(), ") needs ",
      is_reinforcement ? "grpo.held_out" : "data.validation or evaluation.prompts");
}

void check_checkpoint(const Checkpoint& checkpoint, Problems& problems) {
  require_not_negative(problems, "checkpoint.interval", static_cast<double>(checkpoint.interval()));
  require_not_negative(problems, "checkpoint.keep_last",
                       static_cast<double>(checkpoint.keep_last()));
}

}  // namespace

bool require_size(Problems& problems, std::string_view field, std::int64_t value) {
  return problems.require(value != 0, field, " is not set") &&
         problems.require(value > 0, field, " (", value, ") must be positive") &&
         problems.require(value <= kMaxSize, field, " (", value, ") is above ", kMaxSize);
}

std::int64_t product_of_sizes(std::int64_t a, std::int64_t b) noexcept {
  const auto is_size = [](std::int64_t value) { return value > 0 && value <= kMaxSize; };
  return is_size(a) && is_size(b) ? a * b : 0;
}

bool require_not_negative(Problems& problems, std::string_view field, double value) {
  // NaN and infinity are reported once, by check_finite().
  return problems.require(!(value < 0), field, " (", value, ") must not be negative");
}

bool require_positive(Problems& problems, std::string_view field, double value) {
  return problems.require(!(value <= 0), field, " (", value, ") must be positive");
}

void require_divides(Problems& problems, std::string_view divisor_name, std::int64_t divisor,
                     std::string_view field, std::int64_t value) {
  if (divisor > 0 && value > 0) {
    problems.require(value % divisor == 0, divisor_name, " (", divisor, ") does not divide ", field,
                     " (", value, ')');
  }
}

void require_divides_tensor_sizes(Problems& problems, std::string_view divisor_name,
                                  std::int64_t divisor, const Model& model) {
  const auto divides = [&](std::string_view field, std::int64_t value) {
    require_divides(problems, divisor_name, divisor, field, value);
  };
  divides("model.vocab_size", model.vocab_size());
  divides("model.num_attention_heads", model.num_attention_heads());
  if (model.num_dense_layers() > 0 || !model.has_moe()) {
    divides("model.intermediate_size", model.intermediate_size());
  }
  divides("model.moe.num_shared_experts x model.moe.intermediate_size",
          product_of_sizes(model.moe().num_shared_experts(), model.moe().intermediate_size()));
}

std::vector<std::string> find_problems(const RunConfig& config, int world_size, Use use) {
  Problems problems;
  check_finite(config, "", problems);
  check_run(config.run(), problems);
  check_model(config.model(), problems);
  check_layout(config, world_size, problems);
  check_train(config, problems);
  check_optimizer(config.optimizer(), problems);
  if (use == Use::kReinforcement) {
    check_reinforcement(config, problems);
  } else if (use != Use::kInference) {
    check_global_batch(config, problems);
    check_data(config.data(), problems);
  }
  if (use == Use::kFineTuning) {
    check_conversations(config.data(), problems);
  }
  check_checkpoint(config.checkpoint(), problems);
  check_numerics(config, problems);
  if (use != Use::kInference) {
    check_evaluation(config, use, problems);
  }
  return problems.lines();
}

void validate(const RunConfig& config, int world_size, Use use) {
  Problems problems;
  for (const std::string& line : find_problems(config, world_size, use)) {
    problems.add(line);
  }
  problems.throw_if_any();
}

}  // namespace fathom::config
