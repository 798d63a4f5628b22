#include "core/error.h"

#include <algorithm>
#include <array>
#include <cerrno>

namespace fathom {
namespace {

std::string base_name(std::string_view path) {
  // Keep folder/file: enough to find the place, short enough to read.
  std::size_t slash = path.rfind('/');
  if (slash != std::string_view::npos && slash > 0) {
    slash = path.rfind('/', slash - 1);
  }
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

}  // namespace

Error::Error(std::string_view kind, const std::string& message, std::source_location where)
    : std::runtime_error(message),
      message_(message),
      text_(concat(kind, ": ", message, " [", base_name(where.file_name()), ":", where.line(),
                   "]")) {}

Error& Error::add_context(std::string_view while_doing) {
  text_ += concat("\n  while ", while_doing);
  message_ += concat("\n  while ", while_doing);
  return *this;
}

bool IoError::may_pass() const noexcept {
  constexpr std::array kPassing{EIO, ESTALE, ETIMEDOUT, ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM};
  return std::find(kPassing.begin(), kPassing.end(), system_error_) != kPassing.end();
}

}  // namespace fathom
