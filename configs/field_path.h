#pragma once

#include <google/protobuf/message.h>

#include <optional>
#include <string>
#include <string_view>

namespace fathom::config {

// Applies one "path=value" to `config`, as given with --set. Returns what is wrong with it in one
// line, or nothing when it was applied.
//   optimizer.lr=3e-4              a field of a field
//   run.device=CUDA                an enum by name
//   run.directory=runs/a           a string with or without quotes
//   data.train[0].path=a.h5        an element of a repeated field; one past the last appends
//   evaluation.prompts=Once        a repeated field without an index: appends
//   mesh.layers_per_stage=[1, 3]   a list in brackets replaces all elements
//   grpo.held_out=                 nothing empties a list
//   model.yarn={factor: 40}        a message in braces replaces the whole message
std::optional<std::string> apply_override(google::protobuf::Message& config,
                                          std::string_view assignment);

// ': did you mean "hidden_size"?', or the list of the fields there are when none is near.
std::string suggest_field(const google::protobuf::Descriptor& message, std::string_view name);
// "; one of CPU, CUDA"
std::string list_values(const google::protobuf::EnumDescriptor& enumeration);

}  // namespace fathom::config
