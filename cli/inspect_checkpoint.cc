#include "cli/inspect_checkpoint.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "core/error.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"

namespace fathom::cli {
namespace {

constexpr double kMegabyte = 1e6;

void print_identity(const trainer::Manifest& manifest, std::ostream& out) {
  const trainer::CheckpointIdentity& identity = manifest.identity;
  out << "written by version " << identity.program_version << '\n'
      << "tokenizer  " << identity.tokenizer_hash << '\n'
      << "model     ";
  for (const auto& [field, value] : identity.model) {
    out << ' ' << field << '=' << value;
  }
  out << "\nstate     ";
  for (const auto& [name, value] : manifest.integers) {
    out << ' ' << name << '=' << value;
  }
  out << '\n';
}

}  // namespace

bool is_checkpoint(const std::filesystem::path& path) {
  return std::filesystem::exists(path / trainer::kManifestName);
}

trainer::Manifest read_manifest(const std::filesystem::path& folder) {
  // So that it has a name, whatever way it was given.
  const std::filesystem::path absolute = std::filesystem::canonical(folder);
  const std::optional<std::int64_t> step = trainer::step_of_folder(absolute.filename().string());
  if (!step) {
    throw ConfigError(concat(folder.string(), ": not a published checkpoint (step-NNNNNNNN)"));
  }
  const trainer::CheckpointOptions options;
  try {
    return trainer::open_checkpoint(absolute.parent_path(), *step, options.max_manifest_bytes)
        .manifest;
  } catch (const trainer::Damage& damage) {
    throw ConfigError(concat(folder.string(), ": ", damage.what()));
  }
}

void print_checkpoint(const std::filesystem::path& folder, const CheckpointInspection& inspection,
                      std::ostream& out) {
  const trainer::Manifest manifest = read_manifest(folder);
  std::int64_t file_bytes = 0;
  for (const trainer::StoredFile& file : manifest.files) {
    file_bytes += file.size_bytes;
  }
  out << "checkpoint " << folder.string() << '\n' << "step       " << manifest.step << '\n';
  print_identity(manifest, out);
  out << "files      " << manifest.files.size() << ", "
      << static_cast<double>(file_bytes) / kMegabyte << " MB\n"
      << "tensors    " << manifest.tensors.size() << '\n';
  if (inspection.lists_tensors) {
    for (const trainer::StoredTensor& tensor : manifest.tensors) {
      out << "  " << tensor.key << ' ' << tensor.global_shape << ' ' << tensor.dtype << " in "
          << tensor.slices.size() << (tensor.slices.size() == 1 ? " slice\n" : " slices\n");
    }
  }
  if (inspection.verifies) {
    trainer::CheckpointOptions options;
    options.root = std::filesystem::canonical(folder).parent_path();
    trainer::verify_checkpoint(options, manifest.step);
    out << "verified   every byte\n";
  }
}

void print_checkpoint_list(const std::filesystem::path& root, std::ostream& out) {
  for (const std::int64_t step : trainer::list_checkpoints(root)) {
    out << trainer::checkpoint_folder(root, step).string() << '\n';
  }
}

}  // namespace fathom::cli
