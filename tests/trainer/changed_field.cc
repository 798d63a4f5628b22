#include "tests/trainer/changed_field.h"

#include <google/protobuf/message.h>

#include <cmath>
#include <limits>

#include "configs/schema/run.pb.h"
#include "core/error.h"

namespace fathom::testing {
namespace {

namespace pb = google::protobuf;
using Field = pb::FieldDescriptor;

bool is_number_or_choice(const Field& field) {
  switch (field.cpp_type()) {
    case Field::CPPTYPE_INT32:
    case Field::CPPTYPE_INT64:
    case Field::CPPTYPE_DOUBLE:
    case Field::CPPTYPE_BOOL:
    case Field::CPPTYPE_ENUM:
      return !field.is_repeated();
    default:
      return false;
  }
}

std::int64_t draw_integer(Choices& draws) {
  return draws.one_of<std::int64_t>(
      {0, -1, 1, 2, 3, 5, 7, 16, 60, std::numeric_limits<std::int32_t>::max(),
       std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int64_t>::max(),
       std::numeric_limits<std::int64_t>::min()});
}

double draw_real(Choices& draws) {
  return draws.one_of({0.0, -1.0, 1e-300, 1e-9, 0.5, 1.0, 3.0, 1e9, 1e300, HUGE_VAL, std::nan("")});
}

void set_field(Choices& draws, const Field& field, pb::Message& message, ChangedField& changed) {
  const pb::Reflection& reflection = *message.GetReflection();
  constexpr std::int64_t kSmall = 100;
  if (field.cpp_type() == Field::CPPTYPE_DOUBLE) {
    const double value = draw_real(draws);
    reflection.SetDouble(&message, &field, value);
    changed.value = concat(value);
  } else if (field.cpp_type() == Field::CPPTYPE_BOOL) {
    const bool value = !reflection.GetBool(message, &field);
    reflection.SetBool(&message, &field, value);
    changed.value = value ? "true" : "false";
  } else if (field.cpp_type() == Field::CPPTYPE_ENUM) {
    const pb::EnumValueDescriptor& value = *field.enum_type()->value(
        static_cast<int>(draws.between(0, field.enum_type()->value_count() - 1)));
    reflection.SetEnum(&message, &field, &value);
    changed.value = value.name();
  } else {
    std::int64_t value = draw_integer(draws);
    if (field.cpp_type() == Field::CPPTYPE_INT32) {
      value = static_cast<std::int32_t>(value);
      reflection.SetInt32(&message, &field, static_cast<std::int32_t>(value));
    } else {
      reflection.SetInt64(&message, &field, value);
    }
    changed.value = concat(value);
    changed.is_small = value <= kSmall;
  }
}

// Steps into messages that are set until it meets a field that it can set.
ChangedField change_below(Choices& draws, const std::string& prefix, pb::Message& message) {
  while (true) {
    const pb::Descriptor& descriptor = *message.GetDescriptor();
    const Field& field =
        *descriptor.field(static_cast<int>(draws.between(0, descriptor.field_count() - 1)));
    const std::string path = concat(prefix, '.', field.name());
    if (is_number_or_choice(field)) {
      ChangedField changed;
      changed.path = path;
      set_field(draws, field, message, changed);
      return changed;
    }
    if (field.cpp_type() == Field::CPPTYPE_MESSAGE && !field.is_repeated() &&
        message.GetReflection()->HasField(message, &field)) {
      return change_below(draws, path, *message.GetReflection()->MutableMessage(&message, &field));
    }
  }
}

}  // namespace

ChangedField change_a_field(Choices& draws, config::RunConfig& config) {
  switch (draws.between(0, 7)) {
    case 0:
      return change_below(draws, "optimizer", *config.mutable_optimizer());
    case 1:
      return change_below(draws, "numerics", *config.mutable_numerics());
    case 2:
    case 3:
      return change_below(draws, "train", *config.mutable_train());
    case 4:
    case 5:
      return change_below(draws, "mesh", *config.mutable_mesh());
    default:
      return change_below(draws, "model", *config.mutable_model());
  }
}

}  // namespace fathom::testing
