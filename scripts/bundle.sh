#!/usr/bin/env bash
# Packs what a build folder holds (program, tests and benches of a GPU) with every shared library it needs, Open MPI and its launcher, configs
# and scripts, into one folder that runs anywhere on a machine with a glibc no older than this one's, and a tarball of it:
#   scripts/build.sh cuda && scripts/bundle.sh build/cuda fathom-cuda       makes fathom-cuda/ and fathom-cuda.tar.xz
# Not packed: glibc, the driver, and the libraries of the CUDA toolkit (cuBLAS, cuDNN, NCCL), which the machine must have.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$1
output=$2
largest_mib=60

fail() { echo "bundle.sh: $*" >&2; exit 1; }

[ -x "$build/fathom" ] || fail "no program in $build; run scripts/build.sh first"
command -v patchelf >/dev/null || fail "no patchelf; run scripts/install_deps.sh"
[ ! -e "$output" ] || fail "$output exists; remove it or name another folder"

# What the machine must bring: glibc, the driver, the CUDA toolkit.
theirs='^(ld-linux-.*|linux-vdso|lib(c|m|dl|rt|pthread|resolv|util|anl|mvec))[.]so|^lib(cuda|cudart|cublas|cublasLt|cudnn.*|nccl|nvrtc.*|nvJitLink|nvidia-.*)[.]so'
# Plugins of fabrics whose libraries belong to the machine's driver, and of things that nothing here uses. MPI is left with TCP and
# shared memory.
left_out='ucx|ofi|openib|psm|usnic|oshmem|spml|scoll|sshmem|memheap|atomic|monitoring|dbg_msgq'

# copy_needed FILE...: the libraries that these load, and what those load, into lib/.
copy_needed() {
  local name path
  while read -r name path; do
    [[ $name =~ $theirs ]] && continue
    [ "$path" != not ] || fail "$name is not to be found"
    [ -e "$output/lib/$name" ] || cp -L "$path" "$output/lib/$name"
  done < <(for file in "$@"; do ldd "$file"; done | sed -n 's/^\s*\(\S*\) => \(\S*\).*/\1 \2/p' | sort -u)
}

# search_below FOLDER: its programs and libraries look for theirs in lib/, before LD_LIBRARY_PATH.
search_below() {
  local file
  for file in "$1"/*; do
    [ ! -f "$file" ] || patchelf --force-rpath --set-rpath "\$ORIGIN/$(realpath -m --relative-to="$1" "$output/lib")" "$file"
  done
}

copy_programs() {
  local program
  cp "$build/fathom" "$(command -v orted)" "$output/libexec"
  cp -L "$(command -v mpirun)" "$output/libexec/mpirun"
  find "$build/tests" -type f -perm -u+x \( -name '*_cuda' -o -name comm_nccl_program -o -path '*/bench/*_bench' \) -exec cp -t "$output/libexec" {} +
  strip --strip-unneeded "$output"/libexec/*
  install -m 755 "$source_dir/scripts/bundle/launch.sh" "$output/bin/launch.sh"
  for program in "$output"/libexec/*; do
    ln -s launch.sh "$output/bin/$(basename "$program")"
  done
  copy_needed "$output"/libexec/*
  search_below "$output/libexec"
}

# Open MPI finds the rest of itself below OPAL_PREFIX, where its own prefix has it.
copy_open_mpi() {
  local prefix plugins data settings pmix
  prefix=$(ompi_info --path prefix --parsable | cut -d: -f3)
  plugins=$(ompi_info --path pkglibdir --parsable | cut -d: -f3)
  data=$(ompi_info --path pkgdatadir --parsable | cut -d: -f3)
  settings=$(ompi_info --path sysconfdir --parsable | cut -d: -f3)
  mkdir -p "$output/${plugins#"$prefix"/}" "$output/${data#"$prefix"/}" "$output/etc/openmpi"
  cp -L "$data"/*.txt "$output/${data#"$prefix"/}"
  [ ! -f "$settings/openmpi-mca-params.conf" ] || cp "$settings/openmpi-mca-params.conf" "$output/etc/openmpi"
  find "$plugins" -name '*.so' | grep -v -E "$left_out" | xargs cp -t "$output/${plugins#"$prefix"/}"
  copy_needed "$output/${plugins#"$prefix"/}"/*.so
  search_below "$output/${plugins#"$prefix"/}"
  pmix=$(dirname "$(dirname "$(ldd "$plugins"/mca_pmix_ext*.so 2>/dev/null | sed -n 's/.*libpmix.* => \(\S*\).*/\1/p' | xargs -r readlink -f)")")
  if [ -d "$pmix/lib/pmix" ]; then
    cp -r "$pmix/lib/pmix" "$output/lib"
    cp -r "$pmix/share/pmix" "$output/share"
    copy_needed "$output"/lib/pmix/*.so
    search_below "$output/lib/pmix"
  fi
}

mkdir -p "$output"/{bin,lib,libexec}
copy_programs
copy_open_mpi
search_below "$output/lib"
cp -r "$source_dir/configs" "$source_dir/scripts" "$source_dir/docs" "$source_dir/LICENSE" "$output"
rm -rf "$output"/configs/*.{h,cc} "$output/configs/CMakeLists.txt" "$output"/scripts/__pycache__
cp "$source_dir/scripts/bundle/README.md" "$output"
tar -C "$(dirname "$output")" -cf - "$(basename "$output")" | xz -T0 -2 >"$output.tar.xz"
mib=$((($(stat -c %s "$output.tar.xz") + 1048575) / 1048576))
[ "$mib" -le "$largest_mib" ] || fail "$output.tar.xz has $mib MiB, more than $largest_mib"
echo "$output.tar.xz: $mib MiB"
