#!/usr/bin/env bash
# Builds the program and the tests of a GPU with the CUDA backend, no GPU needed, and checks what came out: scripts/check_cuda_build.py
# reads the compiler's log and the machine code (the table of kernels is left in build/cuda/kernels.txt), the programs find their libraries,
# and cuDNN says whether it supports what we ask of it. Without nvcc it says that it skipped, and succeeds.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=build/cuda

PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null || { echo "CUDA build: skipped, no nvcc in PATH or /usr/local/cuda/bin"; exit 0; }

# The log speaks of what is compiled, so every kernel is; ccache repeats what the compiler said.
compile() {
  find "$build" -name '*.cu.o' -delete
  timeout 1200 ninja -C "$build" all >"$build/compiler.log" 2>&1 || { tail -n 100 "$build/compiler.log"; return 1; }
}

read_log() {
  local objects
  mapfile -t objects < <(find "$build" -name '*.cu.o')
  python3 scripts/check_cuda_build.py "$build/compiler.log" "${objects[@]}" >"$build/kernels.txt" ||
    { grep -A 1000 -m 1 '^PROBLEM' "$build/kernels.txt"; return 1; }
}

# Programs that need a driver to start but no GPU get the toolkit's stand-in of it.
run_without_gpu() {
  local stub status toolkit
  toolkit=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
  stub=$(mktemp -d)
  ln -s "$(find "$toolkit/" -name libcuda.so -path '*stubs*' | head -n 1)" "$stub/libcuda.so.1"
  LD_LIBRARY_PATH="$stub${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$@"
  status=$?
  rm -r "$stub"
  return "$status"
}

bash scripts/install_deps.sh --cuda || exit 1
bash scripts/run_quietly.sh "configuring cuda" cmake --preset cuda || exit 1
SECONDS=0
compile || { echo "building cuda failed"; exit 1; }
echo "building cuda ... $SECONDS s"
read_log || exit 1
echo "CUDA kernels: $(tail -n 1 "$build/kernels.txt"); registers and spills in $build/kernels.txt"
for name in cuda_link_test comm_nccl_program cudnn_support; do
  program=$(find "$build/tests" -type f -name "$name" -perm -u+x)
  [ -z "$program" ] || run_without_gpu bash scripts/run_quietly.sh "$name" "$program" --help || exit 1
done
