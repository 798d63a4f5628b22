#include "trainer/bit_choices.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "trainer/identity.h"

namespace fathom::trainer {
namespace {

namespace pb = google::protobuf;

using Fields = std::map<std::string, std::string>;

// Where a run writes, how it is planned and watched and how far it goes.
constexpr std::array<std::string_view, 17> kNoChoice = {
    "run.directory",   "run.threads",           "model_from",
    "train.steps",     "train.time_limit",      "train.watchdog_timeout",
    "train.init_from", "train.trace.",          "train.max_skipped_steps",
    "checkpoint.",     "evaluation.",           "data.validation",
    "data.tokenizer",  "data.prefetch",         "model.max_position",
    "run.cuda_graphs", "mesh.assumed_imbalance"};
// Choices in mode FAST alone.
constexpr std::array<std::string_view, 4> kLayout = {"mesh.", "train.micro_batch_size",
                                                     "train.recompute.", "run.transport"};

template <std::size_t kCount>
bool begins_with_any(const std::string& name,
                     const std::array<std::string_view, kCount>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

// Every field by its path, defaults included.
void append_fields(const pb::Message& message, const std::string& prefix, Fields& fields) {
  const pb::Descriptor& type = *message.GetDescriptor();
  const pb::Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < type.field_count(); ++i) {
    const pb::FieldDescriptor& field = *type.field(i);
    const bool is_message = field.cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE;
    const int count = field.is_repeated() ? reflection.FieldSize(message, &field) : 1;
    for (int item = 0; item < count; ++item) {
      const std::string name =
          prefix + field.name() + (field.is_repeated() ? concat('[', item, ']') : "");
      if (is_message) {
        append_fields(field.is_repeated() ? reflection.GetRepeatedMessage(message, &field, item)
                                          : reflection.GetMessage(message, &field),
                      name + ".", fields);
        continue;
      }
      std::string value;
      pb::TextFormat::PrintFieldValueToString(message, &field, field.is_repeated() ? item : -1,
                                              &value);
      fields[name] = value;
    }
  }
}

std::optional<Fields> choices_of(const CheckpointIdentity& identity) {
  std::optional<config::RunConfig> stored = stored_config(identity);
  if (!stored) {
    return std::nullopt;
  }
  config::RunConfig& config = *stored;
  // Data may move: a source is what its name says.
  for (config::Data::Source& source : *config.mutable_data()->mutable_train()) {
    source.set_path(std::filesystem::path(source.path()).filename().string());
  }
  const bool is_fast = config.numerics().mode() == config::Numerics::FAST;
  // A schedule that ends with the run stretches with it.
  const auto& phases = config.optimizer().schedule().phases();
  const bool stretches =
      !phases.empty() && !phases.rbegin()->has_until_step() && !phases.rbegin()->has_until_tokens();
  Fields fields;
  append_fields(config, "", fields);
  std::erase_if(fields, [&](const auto& field) {
    const std::string& name = field.first;
    return (begins_with_any(name, kNoChoice) && !(stretches && name == "train.steps")) ||
           (!is_fast && begins_with_any(name, kLayout));
  });
  return fields;
}

}  // namespace

std::vector<std::string> changed_bit_choices(const CheckpointIdentity& stored,
                                             const CheckpointIdentity& current) {
  std::vector<std::string> changes;
  if (stored.program_version != current.program_version) {
    changes.push_back(
        concat("program version ", stored.program_version, " -> ", current.program_version));
  }
  const std::optional<Fields> before = choices_of(stored);
  Fields after = *choices_of(current);
  if (!before) {
    changes.emplace_back("the config, which this version cannot read");
    return changes;
  }
  for (const auto& [name, value] : *before) {
    const auto found = after.find(name);
    const std::string now = found == after.end() ? "absent" : found->second;
    if (now != value) {
      changes.push_back(concat(name, ' ', value, " -> ", now));
    }
    if (found != after.end()) {
      after.erase(found);
    }
  }
  for (const auto& [name, value] : after) {
    changes.push_back(concat(name, " absent -> ", value));
  }
  const std::size_t num_sources =
      std::min(stored.data_contents.size(), current.data_contents.size());
  for (std::size_t i = 0; i < num_sources; ++i) {
    if (stored.data_contents[i] != current.data_contents[i]) {
      changes.push_back(
          concat("data.train[", i, "] has other contents than when the checkpoint was written"));
    }
  }
  return changes;
}

std::vector<std::string> changed_yarn(const CheckpointIdentity& stored,
                                      const CheckpointIdentity& current) {
  const auto is_on = [](const CheckpointIdentity& identity) {
    const std::optional<config::RunConfig> config = stored_config(identity);
    return config && config->model().yarn().factor() != 1.0;
  };
  std::vector<std::string> changes;
  if (is_on(stored) || is_on(current)) {
    changes = changed_bit_choices(stored, current);
    std::erase_if(changes,
                  [](const std::string& change) { return !change.starts_with("model.yarn."); });
  }
  return changes;
}

}  // namespace fathom::trainer
