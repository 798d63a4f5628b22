#include "rl/rewards/line_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace fathom::rl {
namespace {

constexpr std::size_t kMaxLineBytes = std::size_t{1} << 20;

// Of a call that says in errno why it failed.
void check(bool is_done, std::string_view operation) {
  if (!is_done) {
    throw IoError(concat("reward command: ", operation, ": ", std::strerror(errno)));
  }
}

// A descriptor that is closed at the end of the scope unless it is released.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) {
      close(value_);
    }
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

// `sh -c command` in a process group of its own, without our signal mask and handlers.
pid_t spawn_shell(const std::string& command, int input, int output) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  // dup2 takes close-on-exec off the copies.
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  std::string shell = "sh";
  std::string option = "-c";
  std::string text = command;
  const std::array<char*, 4> arguments{shell.data(), option.data(), text.data(), nullptr};
  pid_t pid = -1;
  const int error = posix_spawn(&pid, "/bin/sh", &actions, &attributes, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  errno = error;
  check(error == 0, "cannot start /bin/sh");
  return pid;
}

}  // namespace

LineProcess::LineProcess(const std::string& command) {
  std::array<int, 2> sockets{};
  check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) == 0, "socketpair");
  Descriptor input(sockets[0]);
  const Descriptor child_input(sockets[1]);
  std::array<int, 2> pipes{};
  check(pipe2(pipes.data(), O_CLOEXEC) == 0, "pipe");
  Descriptor output(pipes[0]);
  const Descriptor child_output(pipes[1]);
  pid_ = spawn_shell(command, child_input.get(), child_output.get());
  input_ = input.release();
  output_ = output.release();
}

LineProcess::~LineProcess() {
  close(input_);
  close(output_);
  kill(-pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::optional<LineProcess::Readiness> LineProcess::wait(bool wants_to_write,
                                                        Clock::time_point deadline) const {
  std::array<pollfd, 2> events{
      {{.fd = output_, .events = POLLIN, .revents = 0},
       {.fd = wants_to_write ? input_ : -1, .events = POLLOUT, .revents = 0}}};
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    const int found = poll(events.data(), events.size(),
                           static_cast<int>(std::clamp<std::int64_t>(left, 0, 1 << 30)));
    if (found > 0) {
      return Readiness{.is_readable = events[0].revents != 0,
                       .is_writable = events[1].revents != 0};
    }
    if (found == 0 && left <= 0) {
      return std::nullopt;
    }
    check(found == 0 || errno == EINTR, "poll");
  }
}

// False at the end of the output.
bool LineProcess::read_some(std::string& output) const {
  std::array<char, 65536> block{};
  const ssize_t size = read(output_, block.data(), block.size());
  if (size > 0) {
    output.append(block.data(), static_cast<std::size_t>(size));
  }
  return size > 0 || (size < 0 && errno == EINTR);
}

std::optional<LineProcess::Ending> LineProcess::look(std::chrono::milliseconds time) const {
  if (!wait(false, Clock::now() + time)) {
    return std::nullopt;
  }
  std::string output;
  return read_some(output) ? Ending::kTooMuchOutput : Ending::kDied;
}

LineProcess::Answer LineProcess::ask(std::string_view line, std::chrono::milliseconds time_limit) {
  const Clock::time_point deadline = Clock::now() + time_limit;
  std::string question = concat(line, '\n');
  std::string_view unsent = question;
  std::string output;
  if (const std::optional<Ending> before = look(std::chrono::milliseconds(0))) {
    return {*before, ""};
  }
  while (true) {
    const std::optional<Readiness> ready = wait(!unsent.empty(), deadline);
    if (!ready) {
      return {Ending::kTimedOut, ""};
    }
    if (ready->is_writable) {
      const ssize_t sent = send(input_, unsent.data(), unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        return {Ending::kDied, ""};
      }
      unsent.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(sent, 0)));
    }
    if (!ready->is_readable) {
      continue;
    }
    if (!read_some(output)) {
      return {Ending::kDied, ""};
    }
    const std::size_t end = output.find('\n');
    if (end + 1 == output.size() && end != std::string::npos && unsent.empty()) {
      output.pop_back();
      return {Ending::kAnswered, std::move(output)};
    }
    if (end != std::string::npos || output.size() > kMaxLineBytes) {
      return {Ending::kTooMuchOutput, ""};
    }
  }
}

}  // namespace fathom::rl
