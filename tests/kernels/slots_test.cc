#include "tests/kernels/slots.h"

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/paths.h"

namespace fathom::kernels {
namespace {

// The names of all slots that the headers of kernels/ declare.
std::set<std::string> declared_slots() {
  std::set<std::string> names;
  const std::regex declaration(R"(extern constinit KernelSlot<[^;]*\s(\w+);)");
  for (const auto& file : std::filesystem::directory_iterator(test::source_path("kernels"))) {
    if (file.path().extension() == ".h") {
      std::ifstream in(file.path());
      const std::string text(std::istreambuf_iterator<char>(in), {});
      for (std::sregex_iterator found(text.begin(), text.end(), declaration), end; found != end;
           ++found) {
        names.insert((*found)[1]);
      }
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
