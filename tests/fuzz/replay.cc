// The main program of a fuzz target without a fuzzer: gives it every file of the folders that are
// named, in order of their names.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "core/file.h"
#include "tests/fuzz/fuzz_target.h"

int main(int argc, char** argv) {
  std::size_t num_inputs = 0;
  for (int i = 1; i < argc; ++i) {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (entry.is_regular_file()) {
        paths.push_back(entry.path());
      }
    }
    std::ranges::sort(paths);
    for (const std::filesystem::path& path : paths) {
      std::printf("%s\n", path.c_str());
      std::fflush(stdout);  // so that the last line names what crashed
      const std::string content = fathom::read_file(path);
      LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(content.data()), content.size());
    }
    num_inputs += paths.size();
  }
  std::printf("%zu inputs\n", num_inputs);
  return num_inputs > 0 ? 0 : 1;
}
