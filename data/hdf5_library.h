#pragma once

#include <hdf5.h>

#include <string>
#include <utility>

namespace fathom::data {

// What the HDF5 library does not do by itself, for all who call it: token shards (hdf5_file.h) and
// checkpoints (trainer/checkpoint/hdf5_file.h).

// Before anything else of the library; may be called again. No exit handler (it crashes after a
// full disk), no messages of its own, no plug-ins that a file names.
void prepare_hdf5();

// The innermost cause that the last failed call named.
std::string hdf5_error();

// An identifier of the library, closed with the function that belongs to it.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);

  Hdf5Handle() = default;
  Hdf5Handle(hid_t id, Close close_with) : id_(id), close_(close_with) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept
      : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Hdf5Handle() {
    if (is_valid()) {
      close_(id_);
    }
  }

  operator hid_t() const noexcept { return id_; }
  bool is_valid() const noexcept { return id_ >= 0; }
  // Unlike the destructor, tells when it fails: negative.
  [[nodiscard]] herr_t close() { return close_(std::exchange(id_, H5I_INVALID_HID)); }

 private:
  hid_t id_ = H5I_INVALID_HID;
  Close close_ = nullptr;
};

}  // namespace fathom::data
