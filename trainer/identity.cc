#include "trainer/identity.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <utility>

#include "configs/schema/run.pb.h"
#include "configs/write.h"

namespace fathom::trainer {
namespace {

// Fields that change how a model is trained, but not what its weights compute: a resume may change
// them.
bool is_training_choice(const std::string& name) {
  return name == "initializer_range" || name == "max_position" || name == "forced_balance" ||
         name == "selection_bias_update_rate" || name.ends_with("_balance_coefficient") ||
         name == "num_device_groups" || name == "max_device_groups_per_token" ||
         name == "yarn";  // a context is extended by training
}

// Every singular field under `message`, by its path, defaults included.
void append_fields(const google::protobuf::Message& message, const std::string& prefix,
                   std::vector<std::pair<std::string, std::string>>& fields) {
  const google::protobuf::Descriptor& type = *message.GetDescriptor();
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < type.field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *type.field(i);
    if (is_training_choice(field.name())) {
      continue;
    }
    if (field.cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
      append_fields(reflection.GetMessage(message, &field), prefix + field.name() + ".", fields);
      continue;
    }
    std::string value;
    google::protobuf::TextFormat::PrintFieldValueToString(message, &field, -1, &value);
    fields.emplace_back(prefix + field.name(), value);
  }
}

}  // namespace

std::optional<config::RunConfig> stored_config(const CheckpointIdentity& identity) {
  config::RunConfig config;
  return google::protobuf::TextFormat::ParseFromString(identity.config_text, &config)
             ? std::optional(std::move(config))
             : std::nullopt;
}

CheckpointIdentity make_identity(const config::RunConfig& config,
                                 const std::string& tokenizer_hash) {
  CheckpointIdentity identity;
  identity.program_version = kProgramVersion;
  identity.tokenizer_hash = tokenizer_hash;
  identity.config_text = config::to_text(config);
  append_fields(config.model(), "model.", identity.model);
  return identity;
}

}  // namespace fathom::trainer
