#!/usr/bin/env bash
# Installs every package that building, testing and the quickstart need, on Debian 12 or Ubuntu 24.04.
# Does nothing (and needs no root) when all of them are there already.
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache pkg-config git python3           # build
  openmpi-bin libopenmpi-dev                                    # launch, control plane, CPU transport
  libhdf5-dev                                                   # checkpoints, token shards
  protobuf-compiler libprotobuf-dev                             # configs, manifests, TensorBoard events
  libboost-program-options-dev                                  # command line
  libblis-serial-dev libhwy-dev                                 # matrix products, portable SIMD
  nlohmann-json3-dev libxxhash-dev libpcre2-dev                 # tokenizer.json, checksums, unusual splits
  libgmp-dev                                                    # exact answers
  libboost-context-dev                                          # fibers of the emulated CUDA device in tests
  catch2 clang-format-19 clang-tidy-19 python3-h5py             # tests and checks
  patchelf xz-utils                                             # scripts/bundle.sh
  dict-gcide xz-utils gzip                                      # the quickstart's text and its rivals
)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || echo none)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install_deps.sh: as root, run: apt-get install ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
