#include "trainer/hf/import.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "configs/resolve.h"
#include "configs/schema/run.pb.h"
#include "configs/validate.h"
#include "core/error.h"
#include "core/stream.h"
#include "data/json.h"
#include "data/tokenizer.h"
#include "model/factory.h"
#include "parallel/comm/agree.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/hf/model_config.h"
#include "trainer/hf/new_folder.h"
#include "trainer/hf/plain_file.h"
#include "trainer/hf/safetensors_folder.h"
#include "trainer/hf/weight_source.h"
#include "trainer/identity.h"

namespace fathom::trainer {
namespace {

constexpr std::int64_t kMaxConfigBytes = 1'000'000;
constexpr std::int64_t kMaxTokenizerBytes = std::int64_t{64} << 20;

// What is known before anything is written.
struct Preparation {
  config::RunConfig config;
  std::optional<data::Tokenizer> tokenizer;
  std::vector<PublishedTensor> tensors;
  std::unique_ptr<SafetensorsFolder> folder;
  std::unique_ptr<WeightSource> weights;
  std::vector<std::string> notes;
};

// transformers leaves out the modules of multi-token prediction when it saves a model.
void leave_out_missing_modules(Preparation& made) {
  config::Model& model = *made.config.mutable_model();
  const std::string first = concat("model.layers.", model.num_layers(), ".");
  const std::vector<std::string> names = made.folder->names();
  const bool is_there = std::any_of(
      names.begin(), names.end(), [&](const std::string& name) { return name.starts_with(first); });
  if (model.mtp_depth() > 0 && !is_there) {
    made.notes.push_back(concat("config.json has num_nextn_predict_layers ", model.mtp_depth(),
                                ", but no tensor of such a module is there: imported without"));
    model.set_mtp_depth(0);
    if (model.num_dense_layers() == model.num_layers()) {
      model.clear_moe();  // the modules alone had experts
    }
  }
}

// A run that generates and evaluates; whoever trains further brings a config.
void describe_run(const ImportOptions& options, Preparation& made) {
  constexpr std::int64_t kSequenceLength = 4096;
  config::RunConfig& config = made.config;
  config.mutable_run()->set_directory(options.out.string());
  config.mutable_train()->set_steps(1);
  config.mutable_train()->set_global_batch_size(1);
  config.mutable_train()->set_sequence_length(
      std::min(kSequenceLength, config.model().max_position()));
  config.mutable_optimizer()->set_lr(1e-5);
  config.mutable_data()->set_tokenizer(
      (std::filesystem::absolute(options.out) / "tokenizer.json").lexically_normal().string());
  config::RunConfig resolved = config;
  config::resolve(resolved, {});
  config::validate(resolved, 1, config::Use::kInference);
}

// Which of configs/chat/ a model has. V3's is the default; R1's and V3.1's differ from it by how an
// answer begins, which is for the user to choose, and by the tokens in it.
void describe_chat(bool is_v2, const data::Tokenizer& tokenizer, config::Chat& chat) {
  if (is_v2 && !tokenizer.token_id("<｜User｜>")) {  // V2's has no tokens of its own
    chat.set_system_end("\n\n");
    chat.set_user("User: ");
    chat.set_assistant("\n\nAssistant: ");
  }
  for (const char* text : {"<think>", "</think>"}) {
    if (tokenizer.token_id(text)) {
      chat.add_answer_tokens(text);
    }
  }
}

void read_tokenizer(const ImportOptions& options, const nlohmann::json& json, Preparation& made) {
  const std::filesystem::path path =
      options.tokenizer.empty() ? options.folder / "tokenizer.json" : options.tokenizer;
  std::error_code error;
  if (options.tokenizer.empty() && !std::filesystem::exists(path, error)) {
    throw ConfigError(concat(path.string(), " is missing: name one with --tokenizer FILE"));
  }
  made.tokenizer.emplace(read_plain_file(path, kMaxTokenizerBytes), path.string());
  const data::Tokenizer& tokenizer = *made.tokenizer;
  if (tokenizer.vocab_size() > made.config.model().vocab_size()) {
    throw ConfigError(concat(path.string(), " has ", tokenizer.vocab_size(),
                             " tokens, more than config.json's vocab_size ",
                             made.config.model().vocab_size()));
  }
  const std::int32_t eos = tokenizer.special_tokens().eos;
  if (const auto theirs = json.find("eos_token_id");
      theirs != json.end() && theirs->is_number_integer() && *theirs != eos) {
    made.notes.push_back(concat("config.json ends a text with token ", theirs->dump(),
                                "; generation will end it with the tokenizer's end of sentence, ",
                                eos));
  }
  describe_chat(json.at("model_type") == "deepseek_v2", tokenizer,
                *made.config.mutable_data()->mutable_chat());
}

// What transformers adds to a text, where the folder says it.
void read_tokenizer_config(const ImportOptions& options, Preparation& made) {
  const std::filesystem::path path = options.folder / "tokenizer_config.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return;
  }
  const nlohmann::json json =
      data::parse_json(read_plain_file(path, kMaxConfigBytes), path.string());
  const auto adds_bos = json.find("add_bos_token");
  if (adds_bos == json.end() || *adds_bos != nlohmann::json(true)) {
    return;
  }
  if (made.tokenizer->special_tokens().bos < 0) {
    made.notes.push_back(concat(path.string(),
                                " has add_bos_token, but the tokenizer no begin-of-sentence token: "
                                "prompts will begin without"));
    return;
  }
  made.config.mutable_data()->set_document_start(config::Data::BOS);
  made.notes.push_back(concat(path.string(),
                              " has add_bos_token: prompts will begin with the token; set "
                              "data.document_start to BOS in a config for training"));
}

Preparation prepare(const ImportOptions& options) {
  NewFolder::require_room(options.out);
  const std::filesystem::path path = options.folder / "config.json";
  const nlohmann::json json =
      data::parse_json(read_plain_file(path, kMaxConfigBytes), path.string());
  Preparation made;
  *made.config.mutable_model() = read_model_config(json, path.string());
  const bool is_scaled = has_block_scales(json, path.string());
  made.folder = std::make_unique<SafetensorsFolder>(options.folder);
  leave_out_missing_modules(made);
  describe_run(options, made);
  read_tokenizer(options, json, made);
  read_tokenizer_config(options, made);
  made.tensors = published_tensors(model::make_model_options(made.config.model()));
  made.weights = std::make_unique<WeightSource>(*made.folder, made.tensors, is_scaled);
  return made;
}

// A part of the config as a file that others name. `schema`: "model" of configs/schema/model.proto.
std::string config_text(const ImportOptions& options, const std::string& schema,
                        const google::protobuf::Message& part) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseUtf8StringEscaping(true);
  std::string fields;
  FATHOM_CHECK(printer.PrintToString(part, &fields));
  return concat("# proto-file: configs/schema/", schema,
                ".proto\n"
                "# proto-message: ",
                part.GetDescriptor()->full_name(),
                "\n"
                "#\n"
                "# Imported from ",
                std::filesystem::absolute(options.folder).lexically_normal().filename(),
                "; the schema says what is where a field is absent.\n", fields);
}

// Shows this rank's pieces as slices of a state, one at a time in the same memory.
class ImportedState {
 public:
  ImportedState(const ImportOptions& options, Preparation& prepared,
                const parallel::Communicator& world)
      : prepared_(prepared),
        pieces_(pieces_of_rank(prepared.tensors, options.piece_elements, world.rank(),
                               world.world_size())) {
    std::int64_t most = 1;
    for (const Piece& piece : pieces_) {
      most = std::max(most, piece.where.numel());
    }
    memory_ = Tensor::empty(Shape{most}, DType::kFloat32, stream_);
  }

  void visit(parallel::StateVisitor& visitor) {
    for (const Piece& piece : pieces_) {
      const PublishedTensor& tensor = prepared_.tensors[piece.tensor];
      Tensor values = memory_.view_elements(0, Shape{piece.where.numel()});
      if (visitor.access() == parallel::StateVisitor::Access::kRead) {
        prepared_.weights->read(tensor, piece.where, values.mutable_values<float>());
      }
      visitor.tensor({.key = tensor.name,
                      .global_shape = tensor.shape,
                      .row_begin = piece.where.row_begin,
                      .num_rows = piece.where.num_rows,
                      .column_begin = piece.where.column_begin,
                      .num_columns = piece.where.num_columns,
                      .is_owner = true},
                     values);
    }
  }

 private:
  Preparation& prepared_;
  const std::vector<Piece> pieces_;
  Stream stream_;
  Tensor memory_;
};

}  // namespace

ImportSummary import_hf(const ImportOptions& options, parallel::Communicator& world) {
  Preparation prepared;
  parallel::agree(world, [&] { prepared = prepare(options); });
  std::optional<NewFolder> folder;  // rank 0's
  parallel::agree(world, [&] {
    if (world.rank() == 0) {
      folder.emplace(options.out);
      folder->write("tokenizer.json", prepared.tokenizer->json());
      folder->write("model.textproto", config_text(options, "model", prepared.config.model()));
      folder->write("chat.textproto", config_text(options, "data", prepared.config.data().chat()));
    }
  });
  CheckpointOptions checkpoint;
  checkpoint.root = NewFolder::temporary(options.out) / "checkpoints";
  checkpoint.progress = options.progress;
  ImportedState state(options, prepared, world);
  save_checkpoint(
      checkpoint, 0, [&](parallel::StateVisitor& visitor) { state.visit(visitor); },
      make_identity(prepared.config, prepared.tokenizer->hash()), world);
  parallel::agree(world, [&] {
    if (folder) {
      folder->publish();
    }
  });
  return {.num_tensors = prepared.folder->num_tensors(),
          .size_bytes = prepared.folder->size_bytes(),
          .notes = std::move(prepared.notes)};
}

}  // namespace fathom::trainer
