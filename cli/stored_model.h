#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/session.h"
#include "configs/schema/run.pb.h"
#include "core/stream.h"
#include "data/tokenizer.h"
#include "model/pipelined_model.h"
#include "parallel/comm/watchdog.h"
#include "parallel/mesh.h"

namespace fathom::cli {

// A trained model as its checkpoint describes it, before any weight is read.
struct StoredModel {
  std::filesystem::path checkpoint;
  config::RunConfig config;  // of the run that wrote it, laid out for the ranks there are
  std::unique_ptr<data::Tokenizer> tokenizer;
};

// `path` is a checkpoint, or a run folder, whose newest is taken. The overrides are of fields of
// the run's config ("mesh.tensor=2"). Looks at files only. Throws ConfigError and IoError: no
// checkpoint there, a layout that does not fit, no tokenizer.
StoredModel open_stored_model(const std::filesystem::path& path,
                              const std::vector<std::string>& overrides,
                              const config::Launch& launch);

// A text as the model is to read it: its tokens, added ones among them, after what
// data.document_start puts before a document; or those of a user's message with the run's chat
// template (data.chat) around it, in which added tokens are text. Borrows the stored model's
// tokenizer. Throws ConfigError, itself or what it returns, when the tokenizer lacks what they
// need.
using EncodeText = std::function<std::vector<std::int32_t>(const std::string& text)>;
EncodeText make_prompt_encoder(const StoredModel& stored, bool is_chat);

// Throws ConfigError, naming `what`, when the model does not have positions for so many tokens.
void require_room(const std::string& what, std::int64_t num_tokens,
                  const config::RunConfig& config);

// The model on the ranks of the session, without gradients and optimizer, and a watchdog over it
// that ends the job when it hangs, where some folder takes its files.
class LoadedModel {
 public:
  // Collective. Both outlive it. From here on the session is running.
  LoadedModel(const StoredModel& stored, Session& session);
  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;

  model::PipelinedModel& model() noexcept { return model_; }
  const parallel::Mesh& mesh() const noexcept { return mesh_; }
  Stream& stream() noexcept { return stream_; }

 private:
  // Each rank takes its own away, the last one the folder with it.
  struct HeartbeatFile {
    int rank = 0;
    std::filesystem::path folder = {};
    void remove() const noexcept;
    ~HeartbeatFile() { remove(); }
  };

  void start_watchdog(const StoredModel& stored, Session& session);

  HeartbeatFile heartbeat_file_;
  std::unique_ptr<parallel::Watchdog> watchdog_;  // also over how the ranks leave each other
  Stream stream_;
  parallel::Mesh mesh_;
  model::PipelinedModel model_;
};

}  // namespace fathom::cli
