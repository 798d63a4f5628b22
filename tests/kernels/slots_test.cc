#include "tests/kernels/slots.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <string_view>

#include "tests/support/catch.h"
#include "tests/support/paths.h"

namespace fathom::kernels {
namespace {

// Adds the names that `text` declares: the last word of "extern constinit KernelSlot<...> name;".
void add_declared(const std::string& text, std::set<std::string>& names) {
  constexpr std::string_view kDeclaration = "extern constinit KernelSlot<";
  for (std::size_t at = text.find(kDeclaration); at != std::string::npos;
       at = text.find(kDeclaration, at + 1)) {
    const std::size_t end = text.find(';', at);
    const std::size_t before = text.find_last_of(" \n", end);
    names.insert(text.substr(before + 1, end - before - 1));
  }
}

// The names of all slots that the headers of kernels/ declare.
std::set<std::string> declared_slots() {
  std::set<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(test::source_path("kernels"))) {
    if (file.path().extension() == ".h") {
      std::ifstream in(file.path());
      add_declared(std::string(std::istreambuf_iterator<char>(in), {}), names);
    }
  }
  return names;
}

}  // namespace

TEST_CASE("The list of slots has every slot of the headers") {
  std::set<std::string> listed;
  for_each_slot([&](const auto& slot) { listed.insert(std::string(slot.operation()) + "_slot"); });
  CHECK(listed == declared_slots());
}

TEST_CASE("Every operation has a CPU kernel") {
  for_each_slot([](const auto& slot) {
    INFO(std::string(slot.operation()));
    CHECK(slot.has(DeviceType::kCpu));
  });
}

TEST_CASE("An operation without a kernel for the device says so, and on meta does nothing") {
  KernelSlot<void(int&, Stream&)> slot("half");
  Stream cpu;
  Stream meta(Device{DeviceType::kMeta, 0});
  int value = 3;
  CHECK_THROWS_AS(slot(cpu, value), InternalError);
  slot(meta, value);
  CHECK(value == 3);
  const KernelRegistration registration(
      slot, DeviceType::kCpu, +[](int& x, Stream&) { x = 2 * x; });
  slot(cpu, value);
  CHECK(value == 6);
}

}  // namespace fathom::kernels
