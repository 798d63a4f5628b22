#include "trainer/hf/export.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "model/factory.h"
#include "parallel/comm/agree.h"
#include "trainer/chat_data.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/shard_reader.h"
#include "trainer/hf/block_scale.h"
#include "trainer/hf/model_config.h"
#include "trainer/hf/new_folder.h"
#include "trainer/hf/safetensors_folder.h"
#include "trainer/hf/safetensors_plan.h"
#include "trainer/hf/tokenizer_files.h"
#include "trainer/token_data.h"

namespace fathom::trainer {
namespace {

// The tensors of a checkpoint in float32.
class StoredWeights {
 public:
  explicit StoredWeights(const std::filesystem::path& folder)
      : checkpoint_(open_checkpoint(folder.parent_path(),
                                    step_of_folder(folder.filename().string()).value(),
                                    CheckpointOptions{}.max_manifest_bytes)),
        reader_(checkpoint_) {
    reader_.check_folder();
  }

  const StoredTensor& at(const PublishedTensor& tensor) const {
    const std::string& key = tensor.copy_of.empty() ? tensor.name : tensor.copy_of;
    const StoredTensor* stored = checkpoint_.manifest.find(key);
    if (stored == nullptr) {
      throw Damage(concat("tensor ", key, " of its model is missing"));
    }
    const bool is_weight = stored->dtype == DType::kFloat32 || stored->dtype == DType::kBFloat16;
    if (stored->global_shape != tensor.shape || !is_weight) {
      throw Damage(concat("tensor ", key, " is ", stored->dtype, " ", stored->global_shape,
                          "; of its model it would be ", tensor.shape));
    }
    return *stored;
  }

  void read(const PublishedTensor& tensor, const Rectangle& where, std::span<float> values) {
    const StoredTensor& stored = at(tensor);
    if (stored.dtype == DType::kFloat32) {
      reader_.read(stored, where, std::as_writable_bytes(values));
    } else {
      bytes_.resize(values.size() * sizeof(std::uint16_t));
      reader_.read(stored, where, bytes_);
      decode_weights(WeightDType::kBFloat16, bytes_, values);
    }
    if (const auto wrong = find_not_finite(where, values)) {
      throw ConfigError(concat("checkpoint ", checkpoint_.folder.string(), ": tensor ", stored.key,
                               ": ", *wrong, "; export a checkpoint before that"));
    }
  }

 private:
  const OpenCheckpoint checkpoint_;
  ShardReader reader_;
  std::vector<std::byte> bytes_;
};

struct SmallFile {
  std::string name, content;
};

// What is known before anything is written.
struct Preparation {
  std::vector<PublishedTensor> tensors;
  std::vector<PlannedFile> files;
  std::vector<SmallFile> small_files;
  std::unique_ptr<StoredWeights> weights;
};

// Runs body; what it finds damaged becomes a message to the user.
template <class Body>
void explain_damage(const ExportOptions& options, Body body) {
  try {
    body();
  } catch (const Damage& damage) {
    throw ConfigError(
        concat("checkpoint ", options.checkpoint.string(), " is damaged: ", damage.what()));
  }
}

Preparation prepare(const ExportOptions& options, const config::RunConfig& config,
                    const data::Tokenizer& tokenizer) {
  NewFolder::require_room(options.out);
  Preparation made;
  const data::SpecialTokenIds& ids = tokenizer.special_tokens();
  made.small_files = {
      {"config.json",
       write_model_config(config.model(), options.dtype, {.bos = ids.bos, .eos = ids.eos}).dump(2) +
           '\n'},
      {"generation_config.json", generation_config_json(tokenizer)},
      {"tokenizer.json", tokenizer.json()},
      {"tokenizer_config.json",
       tokenizer_config_json(tokenizer, make_chat_markers(config), make_document_start(config),
                             config.model().max_position())}};
  made.tensors = published_tensors(model::make_model_options(config.model()));
  made.files = plan_safetensors(made.tensors, options.dtype, options.max_file_bytes);
  if (made.files.size() > 1) {
    made.small_files.push_back(
        {std::string(kSafetensorsIndexName), write_safetensors_index(made.files)});
  }
  made.weights = std::make_unique<StoredWeights>(options.checkpoint);
  for (const PublishedTensor& tensor : made.tensors) {
    made.weights->at(tensor);
  }
  return made;
}

// Writes the files that are this rank's.
class RankWriter {
 public:
  RankWriter(const ExportOptions& options, Preparation& prepared, std::size_t rank,
             std::size_t num_ranks)
      : options_(options), prepared_(prepared), rank_(rank), num_ranks_(num_ranks) {}

  void run() {
    for (std::size_t i = rank_; i < prepared_.files.size(); i += num_ranks_) {
      total_ += prepared_.files[i].data_bytes();
    }
    for (std::size_t i = rank_; i < prepared_.files.size(); i += num_ranks_) {
      write(prepared_.files[i]);
    }
  }

 private:
  void write(const PlannedFile& planned) {
    ShardFile file = ShardFile::create(NewFolder::temporary(options_.out) / planned.name);
    const std::string header = write_safetensors_header(planned.entries);
    file.reserve(std::ssize(header) + planned.data_bytes());
    file.write_at(0, std::as_bytes(std::span(header)));
    for (const PlannedFile::Item& item : planned.items) {
      const PublishedTensor& tensor = prepared_.tensors[item.tensor];
      for (const Rectangle& where : cut_into_pieces(tensor.shape, options_.piece_elements)) {
        write_piece(file, std::ssize(header), planned, item, where);
      }
    }
    file.sync();
    file.close();
  }

  void write_piece(const ShardFile& file, std::int64_t data_begin, const PlannedFile& planned,
                   const PlannedFile::Item& item, const Rectangle& where) {
    const PublishedTensor& tensor = prepared_.tensors[item.tensor];
    const SafetensorsEntry& entry = planned.entries[item.entry];
    const std::int64_t columns = tensor.shape[-1];
    values_.resize(static_cast<std::size_t>(where.numel()));
    prepared_.weights->read(tensor, where, values_);
    bytes_.resize(static_cast<std::size_t>(where.numel() * size_of(entry.dtype)));
    if (entry.dtype == WeightDType::kFloat8E4M3) {
      scales_.resize(
          static_cast<std::size_t>(num_scale_blocks(where.num_rows) * num_scale_blocks(columns)));
      quantize_blocks(values_, columns,
                      {reinterpret_cast<std::uint8_t*>(bytes_.data()), bytes_.size()}, scales_);
      const std::int64_t first = where.row_begin / kScaleBlock * num_scale_blocks(columns);
      file.write_at(
          data_begin + planned.entries[item.scales].begin + first * std::int64_t{sizeof(float)},
          std::as_bytes(std::span(scales_)));
      done_ += std::ssize(scales_) * std::int64_t{sizeof(float)};
    } else {
      encode_weights(entry.dtype, values_, bytes_);
    }
    const std::int64_t first = where.row_begin * columns + where.column_begin;
    file.write_at(data_begin + entry.begin + first * size_of(entry.dtype), bytes_);
    done_ += std::ssize(bytes_);
    if (options_.progress) {
      options_.progress(done_, total_);
    }
  }

  const ExportOptions& options_;
  Preparation& prepared_;
  const std::size_t rank_, num_ranks_;
  std::vector<float> values_, scales_;
  std::vector<std::byte> bytes_;
  std::int64_t done_ = 0, total_ = 0;
};

}  // namespace

ExportSummary export_hf(const ExportOptions& options, const config::RunConfig& config,
                        const data::Tokenizer& tokenizer, parallel::Communicator& world) {
  FATHOM_CHECK(options.dtype != WeightDType::kFloat16, options.dtype);
  Preparation prepared;
  parallel::agree(world, [&] {
    explain_damage(options, [&] { prepared = prepare(options, config, tokenizer); });
  });
  std::optional<NewFolder> folder;  // rank 0's
  parallel::agree(world, [&] {
    if (world.rank() == 0) {
      folder.emplace(options.out);
      for (const SmallFile& file : prepared.small_files) {
        folder->write(file.name, file.content);
      }
    }
  });
  parallel::agree(world, [&] {
    explain_damage(options, [&] {
      RankWriter(options, prepared, static_cast<std::size_t>(world.rank()),
                 static_cast<std::size_t>(world.world_size()))
          .run();
    });
  });
  parallel::agree(world, [&] {
    if (folder) {
      folder->publish();
    }
  });
  ExportSummary summary{.num_files = prepared.files.size()};
  for (const PlannedFile& file : prepared.files) {
    summary.num_tensors += file.entries.size();
    summary.size_bytes += file.data_bytes();
  }
  return summary;
}

}  // namespace fathom::trainer
