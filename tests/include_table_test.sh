#!/usr/bin/env bash
# The include table holds in the repository, and the check sees each kind of violation in a folder made of them.
# Usage: include_table_test.sh REPOSITORY
set -euo pipefail
repository=$1
check=$repository/scripts/check_includes.sh

bash "$check" "$repository"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
expected=0
# violation FILE HEADER...: a file that includes one header a line, each of which must be reported.
violation() {
  mkdir -p "$folder/$(dirname "$1")"
  printf '#include %s\n' "${@:2}" >"$folder/$1"
  expected=$((expected + $# - 1))
}
allowed() {
  violation "$@"
  expected=$((expected - $# + 1))
}
violation core/a.h '"kernels/matmul.h"' '<mpi.h>' '<blis.h>' '"neighbour.h"' '<core/error.h>'
violation configs/a.cc '"kernels/matmul.h"' '"data/loader.h"'
violation kernels/a.cc '"configs/load.h"' '<hwy/highway.h>' '<cuda_runtime.h>' '<nccl.h>'
violation data/a.h '"parallel/mesh.h"' '<nlohmann/json.hpp>' '"configs/schema/run.pb.h"'
violation parallel/comm/a.cc '<mpi.h>' '"model/moe.h"' '<hdf5.h>'
violation model/a.cc '"optim/adamw.h"' '<boost/program_options.hpp>' '<google/protobuf/message.h>'
violation model/c.cc '<xxhash.h>'
violation trainer/a.h '"configs/schema/run.pb.h"'
violation trainer/checkpoint/b.cc '"configs/schema/run.pb.h"'
violation optim/b.cc '<gmpxx.h>'
violation rl/a.cc '<mpi.h>' '"cli/main.h"'
violation optim/a.cc '"model/moe.h"'
violation trainer/a.cc '"cli/main.h"' '"rl/grpo.h"' '<hdf5.h>' '"tests/support/catch.h"'
allowed parallel/comm/mpi_communicator.cc '<mpi.h>' '"core/error.h"' '<sys/mman.h>'
allowed data/b.h '<nlohmann/json_fwd.hpp>'
allowed trainer/hf/b.cc '"configs/schema/run.pb.h"' '"trainer/checkpoint/manifest.h"'
allowed trainer/b.cc '<nlohmann/json.hpp>' '"configs/schema/run.pb.h"'
violation model/b.cc '<nlohmann/json_fwd.hpp>' '"configs/schema/run.pb.h"'
allowed kernels/cpu/a.cc '<hwy/highway.h>' '<blis.h>' '"kernels/matmul.h"'
allowed trainer/checkpoint/a.cc '<hdf5.h>' '"model/moe.h"' '"optim/adamw.h"'
allowed rl/b.h '<gmpxx.h>' '"rl/problems/problem.h"' '"trainer/weights.h"'
allowed model/factory.cc '"configs/schema/model.pb.h"'
allowed cli/main.cc '"rl/grpo.h"' '<mpi.h>' '<boost/program_options.hpp>'

if bash "$check" "$folder" >"$folder/found"; then
  echo "the check accepted a folder full of violations"
  exit 1
fi
found=$(wc -l <"$folder/found")
if [ "$found" -ne "$expected" ]; then
  cat "$folder/found"
  echo "found $found violations, there are $expected"
  exit 1
fi
