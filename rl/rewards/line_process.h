#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace fathom::rl {

// A shell command that answers each line on its standard input with a line on its standard output;
// its standard error is ours. Runs in a process group of its own, which is killed as a whole when
// the object goes: nothing that the command started stays behind, unless it left the group by
// setsid. When this program dies by a signal, the command sees the end of its input. Not
// thread-safe.
class LineProcess {
 public:
  // Throws IoError when the system cannot start a process. A command that does not exist is
  // started and dies: that is the shell's to say.
  explicit LineProcess(const std::string& command);
  ~LineProcess();
  LineProcess(const LineProcess&) = delete;
  LineProcess& operator=(const LineProcess&) = delete;

  enum class Ending { kAnswered, kDied, kTimedOut, kTooMuchOutput };
  struct Answer {
    Ending ending = Ending::kDied;
    std::string line;  // of kAnswered, without its newline
  };
  // Writes `line` and a newline and waits for the answer. Output that nobody asked for, before the
  // question or in the same write as the answer, is kTooMuchOutput, as is a line of more than 1
  // MiB: answers could no longer be told from one another. After anything but kAnswered the
  // process is of no more use.
  Answer ask(std::string_view line, std::chrono::milliseconds time_limit);
  // Whether it dies, or writes something, within this time although nothing was asked: kDied or
  // kTooMuchOutput, after which it is of no more use; else nothing.
  std::optional<Ending> look(std::chrono::milliseconds time) const;

 private:
  using Clock = std::chrono::steady_clock;

  // Waits until input can be written (if wanted) or output is there; nothing when neither is.
  struct Readiness {
    bool is_readable = false;
    bool is_writable = false;
  };
  std::optional<Readiness> wait(bool wants_to_write, Clock::time_point deadline) const;
  bool read_some(std::string& output) const;

  pid_t pid_ = -1;
  int input_ = -1;   // our end of a socket: a dead reader is an error to see, not a SIGPIPE
  int output_ = -1;  // our end of a pipe
};

}  // namespace fathom::rl
