#include "trainer/hf/import.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "configs/load.h"
#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "core/file.h"
#include "data/tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "tests/support/run_ranks.h"
#include "tests/support/temporary_folder.h"
#include "trainer/checkpoint/catalog.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/hf/export.h"
#include "trainer/hf/new_folder.h"
#include "trainer/hf/safetensors_folder.h"

using namespace fathom;
using namespace fathom::test;
using namespace fathom::trainer;

namespace fs = std::filesystem;

namespace {

// What the tensors of a folder hold.
struct Held {
  WeightDType dtype = WeightDType::kFloat32;
  std::vector<std::int64_t> shape;
  std::string bytes;
  bool operator==(const Held&) const = default;
};
using Tensors = std::map<std::string, Held>;

Tensors read_tensors(const fs::path& path) {
  SafetensorsFolder folder(path);
  Tensors tensors;
  for (const std::string& name : folder.names()) {
    const SafetensorsEntry& entry = *folder.find(name);
    Held& held = tensors[name] = {entry.dtype, entry.shape,
                                  std::string(static_cast<std::size_t>(entry.size_bytes()), '\0')};
    folder.read(entry, 0, std::as_writable_bytes(std::span(held.bytes)));
  }
  return tensors;
}

void write_tensors(const fs::path& folder, const Tensors& tensors) {
  std::vector<SafetensorsEntry> entries;
  std::string data;
  for (const auto& [name, held] : tensors) {
    entries.push_back({name, held.dtype, held.shape, std::ssize(data),
                       std::ssize(data) + std::ssize(held.bytes)});
    data += held.bytes;
  }
  fs::remove(folder / kSafetensorsIndexName);
  std::ofstream(folder / kSafetensorsName, std::ios::binary)
      << write_safetensors_header(entries) << data;
}

fs::path fixture(const char* name) { return source_path(concat("tests/fixtures/hf/", name)); }

// A copy of a fixture that a test may change.
void copy_fixture(const char* name, const fs::path& to) {
  fs::create_directories(to);
  for (const fs::directory_entry& entry : fs::directory_iterator(fixture(name))) {
    fs::copy_file(entry.path(), to / entry.path().filename());
  }
}

// Small pieces, so that tensors are cut, and other ones out than in.
constexpr std::int64_t kPieceIn = 10'000, kPieceOut = 700;

ImportSummary import_on(int num_ranks, const fs::path& folder, const fs::path& out) {
  std::vector<ImportSummary> summaries(static_cast<std::size_t>(num_ranks));
  run_ranks(num_ranks, [&](parallel::Communicator& world, Stream&) {
    summaries[static_cast<std::size_t>(world.rank())] = import_hf(
        {.folder = folder, .tokenizer = {}, .out = out, .progress = {}, .piece_elements = kPieceIn},
        world);
  });
  return summaries.front();
}

void export_on(int num_ranks, const fs::path& run, const fs::path& out, WeightDType dtype,
               std::int64_t max_file_bytes) {
  const fs::path checkpoint = find_checkpoint(run).value();
  const config::RunConfig config = config::load_stored(
      open_checkpoint(checkpoint.parent_path(), 0, INT64_MAX).manifest.identity.config_text, "x");
  const data::Tokenizer tokenizer = data::Tokenizer::load(config.data().tokenizer());
  run_ranks(num_ranks, [&](parallel::Communicator& world, Stream&) {
    export_hf({.checkpoint = checkpoint,
               .out = out,
               .dtype = dtype,
               .max_file_bytes = max_file_bytes,
               .progress = {},
               .piece_elements = kPieceOut},
              config, tokenizer, world);
  });
}

// The message that refuses an import, on two ranks; "" when it is not refused. Nothing may be left.
std::string refusal(const fs::path& folder, const fs::path& out) {
  try {
    import_on(2, folder, out);
    fs::remove_all(out);
    return "";
  } catch (const ConfigError& error) {
    CHECK(!fs::exists(out));
    CHECK(!fs::exists(NewFolder::temporary(out)));
    return error.message();
  }
}

void set_value(Held& held, std::size_t element, float value) {
  const auto size = static_cast<std::size_t>(size_of(held.dtype));
  encode_weights(held.dtype, std::span(&value, 1),
                 std::as_writable_bytes(std::span(held.bytes)).subspan(element * size, size));
}

}  // namespace

TEST_CASE("an imported checkpoint is exported bit for bit, on any ranks and in files of any size") {
  struct Row {
    const char* name;
    WeightDType dtype;
  };
  for (const Row& row :
       {Row{"v2_bf16", WeightDType::kBFloat16}, Row{"v3_fp8_mtp", WeightDType::kFloat8E4M3}}) {
    const Tensors original = read_tensors(fixture(row.name));
    for (const int ranks : {1, 2, 5}) {
      INFO(row.name << " on " << ranks);
      const TemporaryFolder folder;
      const fs::path run = folder.path() / "run", out = folder.path() / "out";
      import_on(ranks, fixture(row.name), run);
      export_on(4 - std::min(ranks, 3), run, out, row.dtype, 20'000 * ranks);
      CHECK(read_tensors(out) == original);
      CHECK(fs::exists(out / kSafetensorsIndexName));
      CHECK(read_file(out / "tokenizer.json") == read_file(fixture(row.name) / "tokenizer.json"));
    }
  }
}

TEST_CASE("float32 weights survive as they are, FP8 ones as the floats that they stand for") {
  const TemporaryFolder folder;
  import_on(1, fixture("v3_fp8_mtp"), folder.path() / "run");
  export_on(1, folder.path() / "run", folder.path() / "wide", WeightDType::kFloat32, 1 << 30);
  CHECK(!fs::exists(folder.path() / "wide" / kSafetensorsIndexName));
  Tensors wide = read_tensors(folder.path() / "wide");
  // Bits that neither BF16 nor FP8 has.
  Held& gate = wide.at("model.layers.1.mlp.experts.3.gate_proj.weight");
  set_value(gate, 17, 1.2345678F);
  copy_fixture("v3_fp8_mtp", folder.path() / "again");
  fs::copy_file(folder.path() / "wide" / "config.json", folder.path() / "again" / "config.json",
                fs::copy_options::overwrite_existing);
  write_tensors(folder.path() / "again", wide);
  import_on(3, folder.path() / "again", folder.path() / "run2");
  export_on(2, folder.path() / "run2", folder.path() / "wide2", WeightDType::kFloat32, 1 << 30);
  CHECK(read_tensors(folder.path() / "wide2") == wide);
}

TEST_CASE("copies of embedding and head may be left out, and are written") {
  const TemporaryFolder folder;
  const fs::path changed = folder.path() / "changed";
  copy_fixture("v3_fp8_mtp", changed);
  const Tensors original = read_tensors(changed);
  Tensors fewer = original;
  fewer.erase("model.layers.2.embed_tokens.weight");
  fewer.erase("model.layers.2.shared_head.head.weight");
  write_tensors(changed, fewer);
  import_on(2, changed, folder.path() / "run");
  export_on(1, folder.path() / "run", folder.path() / "out", WeightDType::kFloat8E4M3, 1 << 30);
  CHECK(read_tensors(folder.path() / "out") == original);
}

TEST_CASE("modules of multi-token prediction that are not there are left out, and it is said") {
  const TemporaryFolder folder;
  const fs::path changed = folder.path() / "changed";
  copy_fixture("v3_fp8_mtp", changed);
  Tensors tensors = read_tensors(changed);
  std::erase_if(tensors,
                [](const auto& item) { return item.first.starts_with("model.layers.2."); });
  write_tensors(changed, tensors);
  const ImportSummary summary = import_on(2, changed, folder.path() / "run");
  REQUIRE(summary.notes.size() == 1);
  CHECK_THAT(summary.notes[0], Catch::Contains("num_nextn_predict_layers 1"));
  CHECK(config::load_model(folder.path() / "run" / "model.textproto").mtp_depth() == 0);
  // A part of one is damage.
  tensors["model.layers.2.enorm.weight"] =
      read_tensors(fixture("v3_fp8_mtp")).at("model.layers.2.enorm.weight");
  write_tensors(changed, tensors);
  CHECK_THAT(refusal(changed, folder.path() / "none"),
             Catch::Contains("tensor model.layers.2.input_layernorm.weight of the model"));
}

TEST_CASE("what stands before a text and the chat template come in, and go out again") {
  const TemporaryFolder folder;
  const fs::path changed = folder.path() / "changed";
  copy_fixture("v2_bf16", changed);
  const auto adds_bos = [&](const std::string& name) {
    export_on(1, folder.path() / name, folder.path() / (name + "-out"), WeightDType::kBFloat16,
              1 << 30);
    return nlohmann::json::parse(
               read_file(folder.path() / (name + "-out") / "tokenizer_config.json"))
        .at("add_bos_token")
        .get<bool>();
  };
  import_on(1, changed, folder.path() / "plain");
  CHECK_FALSE(adds_bos("plain"));
  std::ofstream(changed / "tokenizer_config.json") << R"({"add_bos_token": true})";
  const ImportSummary summary = import_on(2, changed, folder.path() / "begun");
  CHECK(adds_bos("begun"));
  REQUIRE(summary.notes.size() == 1);
  CHECK_THAT(summary.notes[0], Catch::Contains("set data.document_start to BOS"));
  CHECK(import_on(1, folder.path() / "begun-out", folder.path() / "again").notes.size() == 1);
  std::ofstream(changed / "tokenizer_config.json") << R"({"add_bos_token": null})";
  CHECK(import_on(1, changed, folder.path() / "none").notes.empty());

  write_file_atomically(folder.path() / "run.textproto",
                        R"(data { chat_from: "begun/chat.textproto" })");
  const config::RunConfig config = config::load(folder.path() / "run.textproto");
  CHECK(config.data().chat().user() == "User: ");
  CHECK(config.data().chat().assistant() == "\n\nAssistant: ");
}

TEST_CASE("tensors that do not fit the config are refused, naming file and tensor") {
  struct Row {
    const char* what;
    std::function<void(Tensors&)> change;
    std::string message;
  };
  const std::string matrix = "model.layers.1.mlp.experts.5.up_proj.weight";
  const std::string scales = matrix + "_scale_inv", norm = "model.norm.weight";
  const std::vector<Row> rows{
      {"a missing tensor", [&](Tensors& t) { t.erase(norm); }, "tensor model.norm.weight of the"},
      {"a tensor too many", [&](Tensors& t) { t["extra.weight"] = t[norm]; },
       "model.safetensors: tensor extra.weight: it is no part"},
      {"an expert too many",
       [&](Tensors& t) { t["model.layers.1.mlp.experts.8.up_proj.weight"] = t[norm]; },
       "tensor model.layers.1.mlp.experts.8.up_proj.weight: it is no part"},
      {"another shape", [&](Tensors& t) { t[norm].shape = {16, 2}; },
       "model.safetensors: tensor model.norm.weight: shape [16, 2], but config.json makes it [32]"},
      {"a transposed matrix",
       [&](Tensors& t) { std::swap(t[matrix].shape[0], t[matrix].shape[1]); },
       concat("tensor ", matrix, ": shape [32, 16]")},
      {"missing scales", [&](Tensors& t) { t.erase(scales); },
       concat("tensor ", matrix, ": its scales ", scales, " are missing")},
      {"scales of another shape",
       [&](Tensors& t) { t[scales] = {WeightDType::kFloat32, {1, 2}, std::string(8, '\0')}; },
       concat("tensor ", scales, ": F32 [1, 2], wanted F32 [1, 1]")},
      {"scales of another dtype",
       [&](Tensors& t) { t[scales] = {WeightDType::kBFloat16, {1, 1}, std::string(2, '\0')}; },
       "wanted F32 [1, 1]"},
      {"scales without codes", [&](Tensors& t) { t[norm + "_scale_inv"] = t[scales]; },
       "tensor model.norm.weight_scale_inv: it is no part"},
      {"codes where there are none",
       [&](Tensors& t) { t[norm] = {WeightDType::kFloat8E4M3, {32}, std::string(32, '\0')}; },
       "dtype F8_E4M3, but it is none of those that have scales"},
      {"a NaN", [&](Tensors& t) { set_value(t[norm], 7, NAN); },
       "tensor model.norm.weight: the value in row 0, column 7 is nan"},
      {"an infinite scale", [&](Tensors& t) { set_value(t[scales], 0, INFINITY); },
       concat("tensor ", matrix, ": the value in row 0, column 0 is")},
      {"a copy that differs",
       [&](Tensors& t) { set_value(t["model.layers.2.embed_tokens.weight"], 480 * 32 - 1, 3.0F); },
       "tensor model.layers.2.embed_tokens.weight: differs from model.embed_tokens.weight"},
  };
  const TemporaryFolder folder;
  const fs::path changed = folder.path() / "changed";
  copy_fixture("v3_fp8_mtp", changed);
  const Tensors original = read_tensors(changed);
  REQUIRE(refusal(changed, folder.path() / "out").empty());
  for (const Row& row : rows) {
    INFO(row.what);
    Tensors tensors = original;
    row.change(tensors);
    write_tensors(changed, tensors);
    CHECK_THAT(refusal(changed, folder.path() / "out"), Catch::Contains(row.message));
  }
}

TEST_CASE("folders that are no model of ours are refused before anything is written") {
  const TemporaryFolder folder;
  const fs::path changed = folder.path() / "changed", out = folder.path() / "out";
  copy_fixture("v3_fp8_mtp", changed);
  const std::string config = read_file(changed / "config.json");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = config;
    REQUIRE(text.find(from) != std::string::npos);
    text.replace(text.find(from), from.size(), to);
    std::ofstream(changed / "config.json") << text;
    return refusal(changed, out);
  };
  CHECK_THAT(with("\"hidden_size\": 32", "\"hidden_size\": 64"), Catch::Contains("shape"));
  CHECK_THAT(with("\"topk_group\": 2", "\"topk_group\": 5"), Catch::Contains("topk_group"));
  CHECK_THAT(with("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 2000000000"),
             Catch::Contains("more than the 1000000 tensors"));
  CHECK_THAT(with("\"vocab_size\": 480", "\"vocab_size\": 479"), Catch::Contains("480 tokens"));
  CHECK_THAT(with("{", "{\"vocab_size\": 480,"), Catch::Contains("twice in one object"));
  CHECK_THAT(with("\"quant_method\": \"fp8\"", "\"quant_method\": \"awq\""),
             Catch::Contains("quant_method"));
  std::ofstream(changed / "config.json") << config;
  fs::rename(changed / "tokenizer.json", folder.path() / "tokenizer.json");
  CHECK_THAT(refusal(changed, out), Catch::Contains("name one with --tokenizer FILE"));
  fs::create_symlink(folder.path() / "tokenizer.json", changed / "tokenizer.json");
  CHECK_THAT(refusal(changed, out), Catch::Contains("is a symbolic link"));
  fs::remove(changed / "config.json");
  CHECK_THAT(refusal(changed, out), Catch::Contains("config.json is missing"));
  fs::create_directory(out);
  CHECK_THROWS_WITH(import_on(2, fixture("v3_fp8_mtp"), out), Catch::Contains("exists already"));
  CHECK(fs::is_empty(out));
}

TEST_CASE("weights that are not finite are not exported") {
  const TemporaryFolder folder;
  const fs::path run = folder.path() / "run", out = folder.path() / "out";
  import_on(1, fixture("v2_bf16"), run);
  const fs::path root = find_checkpoint(run).value().parent_path();
  const Manifest manifest = open_checkpoint(root, 0, INT64_MAX).manifest;
  run_ranks(1, [&](parallel::Communicator& world, Stream& stream) {
    std::map<std::string, Tensor> values;
    for (const StoredTensor& tensor : manifest.tensors) {
      values.emplace(tensor.key, Tensor::zeros(tensor.global_shape, DType::kFloat32, stream));
    }
    values.at("model.norm.weight").mutable_data<float>()[5] = NAN;
    const auto visit = [&](parallel::StateVisitor& visitor) {
      for (const StoredTensor& tensor : manifest.tensors) {
        const Rectangle whole = whole_of(tensor.global_shape);
        visitor.tensor({.key = tensor.key,
                        .global_shape = tensor.global_shape,
                        .row_begin = 0,
                        .num_rows = whole.num_rows,
                        .column_begin = 0,
                        .num_columns = whole.num_columns,
                        .is_owner = true},
                       values.at(tensor.key));
      }
    };
    save_checkpoint({.root = root}, 0, visit, manifest.identity, world);
  });
  for (const WeightDType dtype :
       {WeightDType::kFloat32, WeightDType::kBFloat16, WeightDType::kFloat8E4M3}) {
    CHECK_THROWS_WITH(
        export_on(2, run, out, dtype, 1 << 30),
        Catch::Contains("tensor model.norm.weight: the value in row 0, column 5 is nan"));
    CHECK(!fs::exists(out));
    CHECK(!fs::exists(NewFolder::temporary(out)));
  }
}

TEST_CASE("a folder that another program is writing is left alone") {
  const TemporaryFolder folder;
  const fs::path out = folder.path() / "out";
  {
    const NewFolder first(out);
    first.write("a.txt", "content");
    CHECK_THROWS_WITH(NewFolder(out), Catch::Contains("out.tmp exists: it is being written"));
    CHECK(fs::exists(NewFolder::temporary(out) / "a.txt"));
  }
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("a damaged checkpoint is not exported") {
  const TemporaryFolder folder;
  const fs::path run = folder.path() / "run", out = folder.path() / "out";
  import_on(2, fixture("v2_bf16"), run);
  const fs::path file = find_checkpoint(run).value() / "rank-00001.h5";
  std::string bytes = read_file(file);
  bytes[bytes.size() / 2] ^= 1;
  std::ofstream(file, std::ios::binary) << bytes;
  CHECK_THROWS_WITH(export_on(2, run, out, WeightDType::kBFloat16, 1 << 30),
                    Catch::Contains("is damaged: file rank-00001.h5"));
  CHECK(!fs::exists(out));
  CHECK(!fs::exists(NewFolder::temporary(out)));
}
