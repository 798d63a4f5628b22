#include "trainer/checkpoint/manifest.h"

#include <algorithm>
#include <limits>

#include "configs/schema/checkpoint_manifest.pb.h"
#include "core/error.h"

namespace fathom::trainer {
namespace {

namespace proto = fathom::checkpoint;

proto::Tensor::DType to_proto(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return proto::Tensor::FLOAT32;
    case DType::kBFloat16:
      return proto::Tensor::BFLOAT16;
    case DType::kInt32:
      return proto::Tensor::INT32;
    case DType::kInt64:
      return proto::Tensor::INT64;
  }
  throw InternalError(concat("no such dtype: ", static_cast<int>(dtype)));
}

DType from_proto(proto::Tensor::DType dtype) {
  switch (dtype) {
    case proto::Tensor::FLOAT32:
      return DType::kFloat32;
    case proto::Tensor::BFLOAT16:
      return DType::kBFloat16;
    case proto::Tensor::INT32:
      return DType::kInt32;
    case proto::Tensor::INT64:
      return DType::kInt64;
  }
  throw InternalError(concat("no such dtype: ", static_cast<int>(dtype)));
}

void write_identity(const CheckpointIdentity& identity, proto::Identity& out) {
  out.set_program_version(identity.program_version);
  out.set_tokenizer_hash(identity.tokenizer_hash);
  out.set_config_text(identity.config_text);
  for (const auto& [name, value] : identity.model) {
    proto::Field& field = *out.add_model();
    field.set_name(name);
    field.set_value(value);
  }
  out.mutable_data_contents()->Add(identity.data_contents.begin(), identity.data_contents.end());
}

CheckpointIdentity read_identity(const proto::Identity& in) {
  CheckpointIdentity identity{
      .program_version = in.program_version(),
      .tokenizer_hash = in.tokenizer_hash(),
      .config_text = in.config_text(),
      .model = {},
      .data_contents = {in.data_contents().begin(), in.data_contents().end()}};
  for (const proto::Field& field : in.model()) {
    identity.model.emplace_back(field.name(), field.value());
  }
  return identity;
}

void write_tensor(const StoredTensor& tensor, proto::Tensor& out) {
  out.set_key(tensor.key);
  for (const std::int64_t size : tensor.global_shape.sizes()) {
    out.add_global_shape(size);
  }
  out.set_dtype(to_proto(tensor.dtype));
  for (const StoredSlice& slice : tensor.slices) {
    proto::Slice& entry = *out.add_slices();
    entry.set_file(static_cast<std::uint32_t>(slice.file));
    entry.set_row_begin(slice.where.row_begin);
    entry.set_num_rows(slice.where.num_rows);
    entry.set_column_begin(slice.where.column_begin);
    entry.set_num_columns(slice.where.num_columns);
    entry.set_file_offset(slice.file_offset);
    entry.set_xxh3_64(slice.checksum);
  }
}

StoredTensor read_tensor(const proto::Tensor& in) {
  const auto& sizes = in.global_shape();
  if (sizes.empty() || sizes.size() > 2 ||
      std::any_of(sizes.begin(), sizes.end(), [](std::int64_t size) { return size < 1; })) {
    throw Damage(concat("tensor ", in.key().substr(0, 200), " has ", sizes.size(),
                        " dimensions, or one of them is empty; 1 or 2 are possible"));
  }
  StoredTensor tensor{.key = in.key(),
                      .global_shape = Shape(std::span<const std::int64_t>(
                          sizes.data(), static_cast<std::size_t>(sizes.size()))),
                      .dtype = from_proto(in.dtype()),
                      .slices = {}};
  for (const proto::Slice& entry : in.slices()) {
    tensor.slices.push_back({.where = {.row_begin = entry.row_begin(),
                                       .num_rows = entry.num_rows(),
                                       .column_begin = entry.column_begin(),
                                       .num_columns = entry.num_columns()},
                             .file = static_cast<int>(entry.file()),
                             .file_offset = entry.file_offset(),
                             .checksum = entry.xxh3_64()});
  }
  return tensor;
}

proto::CheckpointManifest to_proto(const Manifest& manifest) {
  proto::CheckpointManifest out;
  out.set_step(manifest.step);
  for (const auto& [key, value] : manifest.integers) {
    proto::Integer& entry = *out.add_integers();
    entry.set_key(key);
    entry.set_value(value);
  }
  write_identity(manifest.identity, *out.mutable_identity());
  for (const StoredFile& file : manifest.files) {
    proto::File& entry = *out.add_files();
    entry.set_name(file.name);
    entry.set_size_bytes(file.size_bytes);
    entry.set_xxh3_128_high(file.checksum.high);
    entry.set_xxh3_128_low(file.checksum.low);
    entry.set_metadata_xxh3_64(file.metadata_checksum);
  }
  for (const StoredTensor& tensor : manifest.tensors) {
    write_tensor(tensor, *out.add_tensors());
  }
  return out;
}

Manifest from_proto(const proto::CheckpointManifest& in) {
  Manifest manifest;
  manifest.step = in.step();
  for (const proto::Integer& entry : in.integers()) {
    manifest.integers.emplace_back(entry.key(), entry.value());
  }
  manifest.identity = read_identity(in.identity());
  for (const proto::File& entry : in.files()) {
    manifest.files.push_back(
        {.name = entry.name(),
         .size_bytes = entry.size_bytes(),
         .checksum = {.high = entry.xxh3_128_high(), .low = entry.xxh3_128_low()},
         .metadata_checksum = entry.metadata_xxh3_64()});
  }
  for (const proto::Tensor& entry : in.tensors()) {
    manifest.tensors.push_back(read_tensor(entry));
  }
  return manifest;
}

template <class Message>
Message parse(std::string_view bytes) {
  Message message;
  if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()) ||
      !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    throw Damage(concat(kManifestName, " is no manifest (", bytes.size(), " bytes)"));
  }
  return message;
}

// XXH3-64, seed format_version.
std::uint64_t seal_of(std::string_view manifest, std::uint32_t format_version) {
  data::Checksum64 checksum(format_version);
  checksum.add(std::as_bytes(std::span(manifest)));
  return checksum.value();
}

}  // namespace

std::string serialize_manifest(const Manifest& manifest) {
  proto::SealedManifest sealed;
  sealed.set_format_version(kFormatVersion);
  sealed.set_manifest(serialize_part(manifest));
  sealed.set_xxh3_64(seal_of(sealed.manifest(), kFormatVersion));
  return sealed.SerializeAsString();
}

Manifest parse_manifest(std::string_view bytes) {
  const auto sealed = parse<proto::SealedManifest>(bytes);
  if (!sealed.has_format_version() || !sealed.has_xxh3_64() ||
      seal_of(sealed.manifest(), sealed.format_version()) != sealed.xxh3_64()) {
    throw Damage(concat("the checksum of ", kManifestName, " does not match its content"));
  }
  if (sealed.format_version() > kFormatVersion) {
    throw ConfigError(concat(kManifestName, " is written in format ", sealed.format_version(),
                             "; this program reads up to format ", kFormatVersion,
                             ": use a newer one"));
  }
  auto message = parse<proto::CheckpointManifest>(sealed.manifest());
  const std::size_t size_with_unknown_fields = message.ByteSizeLong();
  message.DiscardUnknownFields();
  if (message.ByteSizeLong() != size_with_unknown_fields) {
    throw ConfigError(
        concat(kManifestName, " holds fields that this program does not know: use a newer one"));
  }
  Manifest manifest = from_proto(message);
  validate(manifest);
  return manifest;
}

std::string serialize_part(const Manifest& part) { return to_proto(part).SerializeAsString(); }

Manifest parse_part(std::string_view bytes) {
  return from_proto(parse<proto::CheckpointManifest>(bytes));
}

const StoredTensor* Manifest::find(std::string_view key) const noexcept {
  const auto found = std::lower_bound(
      tensors.begin(), tensors.end(), key,
      [](const StoredTensor& tensor, std::string_view k) { return tensor.key < k; });
  return found != tensors.end() && found->key == key ? &*found : nullptr;
}

}  // namespace fathom::trainer
