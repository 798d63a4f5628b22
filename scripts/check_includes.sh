#!/usr/bin/env bash
# Checks every #include of the library against the table of docs/architecture.md: which folder may include which, and which
# files may see which third-party header. Usage: check_includes.sh [ROOT]   (default: this repository)
# Prints one line a violation, file:line and what would be allowed; exits 1 if there is any.
set -euo pipefail
root=${1:-$(dirname "${BASH_SOURCE[0]}")/..}
cd "$root"

folders=()
for folder in core configs kernels data parallel model optim trainer rl cli; do
  [ -d "$folder" ] && folders+=("$folder")
done
[ ${#folders[@]} -gt 0 ] || { echo "check_includes.sh: no source folders in $root" >&2; exit 1; }

find "${folders[@]}" \( -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
  LC_ALL=C sort -z | xargs -0 -r awk '
  BEGIN {
    below["core"] = "core"
    below["configs"] = "configs core"
    below["kernels"] = "kernels core"
    below["data"] = "data configs core"
    below["parallel"] = "parallel kernels configs core"
    below["model"] = "model parallel kernels configs core"
    below["optim"] = "optim parallel kernels configs core"
    below["trainer"] = "trainer model optim data parallel kernels configs core"
    below["rl"] = "rl trainer model optim data parallel kernels configs core"
    below["cli"] = "cli rl trainer model optim data parallel kernels configs core"

    # Third-party headers: a pattern of the header, a pattern of the files that may include it, and that in words.
    fence("^(cuda|cublas|cudnn|cuda_|cub/|thrust/|nvtx)", "(^|/)cuda/", "*/cuda/")
    fence("^cudnn_frontend", "/cudnn_attention[.]cc$", "cudnn_attention.cc")
    fence("^nccl", "(^|/)nccl_([^/]*[.]cc|channel[.]h)$", "nccl_*.cc and nccl_channel.h")
    fence("^mpi[.]h$|^mpi-ext[.]h$", "(^cli/|(^|/)mpi_[^/]*[.]cc$)", "mpi_*.cc and cli/")
    fence("^(H5|hdf5)", "^(data/|trainer/checkpoint/)", "data/ and trainer/checkpoint/")
    fence("^boost/", "^(cli|configs)/", "cli/ and configs/")
    fence("^(blis|hwy/)", "^kernels/cpu/", "kernels/cpu/")
    # Below cli/ headers name a config by configs/run_config.h; trainer/ puts a run together from it, other folders have
    # it turned into their own options by their factories.
    protobuf_files = "^(configs|cli)/|(^|/)factory[.](h|cc)$|^trainer/([^/]*|hf/[^/]*|checkpoint/manifest)[.]cc$|^rl/(grpo_task|rollout_journal|rewards/score_state)[.]cc$"
    protobuf_words = "configs/, cli/, factory.{h,cc}, trainer/*.cc, trainer/hf/*.cc, trainer/checkpoint/manifest.cc, rl/grpo_task.cc, rl/rollout_journal.cc and rl/rewards/score_state.cc"
    fence("[.]pb[.]h$|^google/protobuf/", protobuf_files, protobuf_words)
    fence("^nlohmann/", "^(data|trainer|rl|cli)/", "data/, trainer/, rl/ and cli/")
    fence("^nlohmann/json[.]hpp$", "[.]cc$", ".cc files; headers take json_fwd.hpp")
    fence("^(pcre2|utf8proc)", "^data/", "data/")
    fence("^xxh", "^data/", "data/")
    fence("^gmp", "^rl/", "rl/")
  }
  function fence(header, files, words) {
    ++num_fences
    fence_header[num_fences] = header
    fence_files[num_fences] = files
    fence_words[num_fences] = words
  }
  function report(problem) {
    printf "%s:%d: includes %s: %s\n", FILENAME, FNR, header, problem
    failed = 1
  }
  /^[ \t]*#[ \t]*include[ \t]*["<]/ {
    is_quoted = $0 ~ /include[ \t]*"/
    header = $0
    sub(/^[^"<]*["<]/, "", header)
    sub(/[">].*$/, "", header)
    split(FILENAME, file_parts, "/")
    split(header, header_parts, "/")
    from = file_parts[1]
    to = header_parts[1]
    for (i = 1; i <= num_fences; ++i) {
      if (header ~ fence_header[i] && FILENAME !~ fence_files[i]) {
        report("only " fence_words[i] " may")
      }
    }
    if (is_quoted && !(to in below)) {
      report("write the path from the repository root, below one of the source folders")
    } else if (is_quoted && (" " below[from] " ") !~ (" " to " ")) {
      report(from "/ may include only " below[from])
    } else if (!is_quoted && to in below && header ~ /\//) {
      report("our own headers are quoted")
    }
  }
  END { exit failed }'
