#pragma once

#include <string>

#include "core/stream.h"

namespace fathom {

// A named stretch of the work that a thread gives to a device, for its profiler (NVTX on CUDA),
// from construction to destruction; they nest. Free on devices without one.
class ProfilerRange {
 public:
  ProfilerRange(Stream& stream, const char* name) : queue_(stream.queue()) {
    if (queue_ != nullptr) {
      queue_->begin_range(name);
    }
  }
  // "<name> <number>"
  ProfilerRange(Stream& stream, const char* name, int number) : queue_(stream.queue()) {
    if (queue_ != nullptr) {
      queue_->begin_range((std::string(name) + ' ' + std::to_string(number)).c_str());
    }
  }
  ~ProfilerRange() {
    if (queue_ != nullptr) {
      queue_->end_range();
    }
  }
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;

 private:
  DeviceQueue* queue_;
};

}  // namespace fathom
