#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "configs/schema/run.pb.h"

namespace fathom::config {

// Reads a RunConfig from protobuf text at `path`, merges the model that `model_from` names and the
// chat template that `data.chat_from` names below what the file itself says of them, and applies
// the overrides ("path=value", see configs/field_path.h) in their order. The result names no file
// any more and is neither resolved nor validated. Throws one ConfigError with every problem found:
// file:line:column for the file, the path for an override, the nearest field name for an unknown
// one. Files are at most 1 MB and 100 messages deep.
RunConfig load(const std::filesystem::path& path, const std::vector<std::string>& overrides = {});

// The resolved config that a checkpoint holds, for another launch: without the layout and the
// threads that it was resolved for, then with the overrides. `origin` names it in messages. Throws
// as load().
RunConfig load_stored(const std::string& text, const std::string& origin,
                      const std::vector<std::string>& overrides = {});

// A Model alone, as in configs/models/.
Model load_model(const std::filesystem::path& path);

}  // namespace fathom::config
