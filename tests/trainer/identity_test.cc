#include "trainer/identity.h"

#include <google/protobuf/descriptor.h>

#include <set>
#include <string>

#include "configs/schema/run.pb.h"
#include "tests/support/catch.h"

namespace fathom::trainer {
namespace {

using Names = std::set<std::string>;

void append_names(const google::protobuf::Descriptor& type, const std::string& prefix,
                  Names& names) {
  for (int i = 0; i < type.field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *type.field(i);
    if (field.cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
      append_names(*field.message_type(), prefix + field.name() + ".", names);
    } else {
      names.insert(prefix + field.name());
    }
  }
}

}  // namespace

TEST_CASE("A resume may change what trains a model, and nothing that its weights compute with") {
  Names names;
  append_names(*config::Model::descriptor(), "model.", names);
  for (const auto& [name, value] : make_identity({}, "").model) {
    CAPTURE(name);
    CHECK(names.erase(name) == 1);
  }
  CHECK(names ==
        Names{"model.initializer_range", "model.max_position",
              "model.moe.communication_balance_coefficient", "model.moe.device_balance_coefficient",
              "model.moe.expert_balance_coefficient", "model.moe.forced_balance",
              "model.moe.max_device_groups_per_token", "model.moe.num_device_groups",
              "model.moe.selection_bias_update_rate", "model.moe.sequence_balance_coefficient",
              "model.yarn.beta_fast", "model.yarn.beta_slow", "model.yarn.factor",
              "model.yarn.mscale", "model.yarn.original_max_position"});
}

}  // namespace fathom::trainer
