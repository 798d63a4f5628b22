#pragma once

#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace fathom {

// The errors of the whole program, told apart by who has to act. what() reads
// "<kind>: <message> [file:line]", then one line "  while <doing>" per context added on the way up.
class Error : public std::runtime_error {
 public:
  Error(std::string_view kind, const std::string& message, std::source_location where);

  // Adds a line saying what the caller was doing. In a handler: `e.add_context("..."); throw;`,
  // since throwing the result would forget which kind of error it is.
  Error& add_context(std::string_view while_doing);
  const char* what() const noexcept override { return text_.c_str(); }

  // The message alone, as a user should read it: no source location.
  const std::string& message() const noexcept { return message_; }

 private:
  std::string message_;
  std::string text_;
};

// The user must act: config, command line, contradictory layout, unusable data. Exit code 93.
class ConfigError : public Error {
 public:
  explicit ConfigError(const std::string& message,
                       std::source_location where = std::source_location::current())
      : Error("config", message, where) {}
};

// A file could not be read or written. A retry, or the user, may help.
class IoError : public Error {
 public:
  explicit IoError(const std::string& message,
                   std::source_location where = std::source_location::current())
      : Error("io", message, where) {}
  // With the errno of the system call that failed.
  IoError(const std::string& message, int system_error,
          std::source_location where = std::source_location::current())
      : Error("io", message, where), system_error_(system_error) {}

  // 0 where it is not known.
  int system_error() const noexcept { return system_error_; }
  // Whether what failed may go well another time although nobody mends anything: a network file
  // system that is away for a while, a disk, memory or table of files that is full.
  bool may_pass() const noexcept;

 private:
  int system_error_ = 0;
};

// A peer or the network failed or did not answer in time: restart from the last checkpoint.
class CommError : public Error {
 public:
  explicit CommError(const std::string& message,
                     std::source_location where = std::source_location::current())
      : Error("comm", message, where) {}
};

// The device failed: a person has to look at it.
class DeviceError : public Error {
 public:
  explicit DeviceError(const std::string& message,
                       std::source_location where = std::source_location::current())
      : Error("device", message, where) {}
};

// A broken invariant: a bug in Fathom.
class InternalError : public Error {
 public:
  explicit InternalError(const std::string& message,
                         std::source_location where = std::source_location::current())
      : Error("internal", message, where) {}
};

// All parts written after one another with operator<<.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace fathom

// Throws InternalError unless `condition` holds. The parts after it are written into the message:
// give the numbers involved.
#define FATHOM_CHECK(condition, ...)                                                      \
  do {                                                                                    \
    if (!(condition)) [[unlikely]] {                                                      \
      throw ::fathom::InternalError(                                                      \
          ::fathom::concat("check failed: " #condition __VA_OPT__(, ": ", __VA_ARGS__))); \
    }                                                                                     \
  } while (false)
