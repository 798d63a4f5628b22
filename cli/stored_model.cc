#include "cli/stored_model.h"

#include <iostream>
#include <optional>
#include <system_error>

#include "cli/inspect_checkpoint.h"
#include "cli/watchdog.h"
#include "configs/load.h"
#include "configs/resolve.h"
#include "configs/validate.h"
#include "core/error.h"
#include "data/document_start.h"
#include "model/factory.h"
#include "parallel/comm/agree.h"
#include "parallel/comm/heartbeat_file.h"
#include "trainer/chat_data.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/factory.h"
#include "trainer/identity.h"
#include "trainer/token_data.h"
#include "trainer/weights.h"

namespace fathom::cli {
namespace {

std::filesystem::path require_checkpoint(const std::filesystem::path& path) {
  const std::optional<std::filesystem::path> found = trainer::find_checkpoint(path);
  if (!found) {
    throw ConfigError(concat(path.string(),
                             ": neither a checkpoint (RUN/checkpoints/step-NNNNNNNN) nor a run "
                             "folder that has one"));
  }
  return *found;
}

// The config that the checkpoint was written with, laid out for the ranks there are.
config::RunConfig checkpoint_config(const std::filesystem::path& checkpoint,
                                    const std::vector<std::string>& overrides,
                                    const config::Launch& launch) {
  config::RunConfig config =
      config::load_stored(read_manifest(checkpoint).identity.config_text,
                          concat("config of ", checkpoint.string()), overrides);
  config::resolve(config, launch);
  // Each tensor rank takes its part of a micro-batch, which the training's need not have.
  config::Train& train = *config.mutable_train();
  train.set_micro_batch_size(train.micro_batch_size() * config.mesh().tensor());
  config::validate(config, launch.world_size, config::Use::kInference);
  if (config.data().tokenizer().empty()) {
    throw ConfigError(concat(checkpoint.string(),
                             ": its config names no tokenizer; add --set data.tokenizer=FILE"));
  }
  return config;
}

Device use_device(const StoredModel& stored, Session& session) {
  session.use_device(stored.config);
  return session.device();
}

model::ModelOptions model_options(const config::RunConfig& config) {
  model::ModelOptions options = model::make_model_options(config);
  options.numerics.gradients = {.is_allocated = false};
  return options;
}

// Where heartbeats may be written, the best place first. Seen by all ranks: on one node any folder
// is, across nodes that of the run, unless it is somebody else's, and mostly the current one.
std::vector<std::filesystem::path> heartbeat_parents(const StoredModel& stored,
                                                     const Session& session) {
  std::error_code ignored;
  const config::Launch launch = session.launch();
  return {launch.ranks_per_node == launch.world_size
              ? std::filesystem::temp_directory_path(ignored)
              : stored.checkpoint.parent_path().parent_path() / "log",
          std::filesystem::current_path(ignored)};
}

}  // namespace

StoredModel open_stored_model(const std::filesystem::path& path,
                              const std::vector<std::string>& overrides,
                              const config::Launch& launch) {
  StoredModel stored;
  stored.checkpoint = require_checkpoint(path);
  stored.config = checkpoint_config(stored.checkpoint, overrides, launch);
  stored.tokenizer = trainer::load_tokenizer(stored.config);
  return stored;
}

EncodeText make_prompt_encoder(const StoredModel& stored, bool is_chat) {
  if (is_chat) {
    return trainer::make_chat_encoder(stored.config, *stored.tokenizer);
  }
  return [&tokenizer = *stored.tokenizer, start = trainer::make_document_start(stored.config)](
             const std::string& text) { return data::encode_document(tokenizer, text, start); };
}

void require_room(const std::string& what, std::int64_t num_tokens,
                  const config::RunConfig& config) {
  if (num_tokens > config.model().max_position()) {
    throw ConfigError(concat(what, " has ", num_tokens, " tokens, and the model ",
                             config.model().max_position(),
                             " positions (model.max_position): there is no room for more"));
  }
}

LoadedModel::LoadedModel(const StoredModel& stored, Session& session)
    : heartbeat_file_{.rank = session.rank()},
      stream_(use_device(stored, session), stored.config.run().threads(),
              model::make_numerics_options(stored.config).sum_order()),
      mesh_(session.device_world(), trainer::make_mesh_shape(stored.config.mesh())),
      model_(model_options(stored.config), trainer::make_pipeline_options(stored.config), mesh_,
             stream_) {
  start_watchdog(stored, session);
  session.heartbeat().begin_phase("load weights");
  trainer::load_model(stored.checkpoint, stored.config,
                      trainer::make_identity(stored.config, stored.tokenizer->hash()), model_,
                      mesh_, stream_);
  session.begin_running();
}

void LoadedModel::start_watchdog(const StoredModel& stored, Session& session) {
  const std::uint64_t job_id = draw_job_id(session.world());
  std::string reasons;
  for (const std::filesystem::path& parent : heartbeat_parents(stored, session)) {
    heartbeat_file_.folder = parent / concat("fathom-heartbeat-", job_id);
    try {
      parallel::agree(session.world(), [&] {
        watchdog_ = std::make_unique<parallel::Watchdog>(
            session.heartbeat(),
            watchdog_options(session, stored.config, heartbeat_file_.folder, job_id));
      });
      return;
    } catch (const IoError& error) {  // on all ranks
      watchdog_.reset();
      heartbeat_file_.remove();
      reasons += "; " + error.message();
    }
  }
  if (heartbeat_file_.rank == 0) {
    std::cerr << concat("no watchdog looks for a hang, since no folder takes its files", reasons,
                        '\n');
  }
}

void LoadedModel::HeartbeatFile::remove() const noexcept {
  if (folder.empty()) {
    return;
  }
  std::error_code ignored;
  std::filesystem::remove(parallel::heartbeat_path(folder, rank), ignored);
  std::filesystem::remove(folder, ignored);
}

}  // namespace fathom::cli
