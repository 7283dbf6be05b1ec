#!/usr/bin/env bash
# Everything that only a GPU can show, unattended, in stages of under nine minutes each:
#
#   gpu_check.sh wheels     on a machine with a package index: what the GPU machine needs, in .gpu-wheels/
#   gpu_check.sh setup      on the GPU machine, offline: an environment in .venv-gpu/, and what it is
#   gpu_check.sh test       the tests marked `gpu`, where a skip is a failure
#   gpu_check.sh sanitize   a subset under compute-sanitizer
#   gpu_check.sh bench      throughput, with the ceilings of the machine beside it
#
# The GPU machine has Python 3.12 or newer with CuPy and NumPy. Results go to $OUT (default
# benchmarks/results/latest) as they come, seven files at most.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

out="${OUT:-benchmarks/results/latest}"
wheels=.gpu-wheels
venv=.venv-gpu
python="${GPU_PYTHON:-python3}"
mkdir -p "$out"
export GPUZARR_OBSERVATIONS="$PWD/$out/observations.json" PYTHONPATH="$PWD" PYTHONUNBUFFERED=1
case "$out" in /*) GPUZARR_OBSERVATIONS="$out/observations.json" ;; esac

# Not needed there: what CuPy brings, and what only other tests use.
packages=(
  nvidia-libnvcomp-cu13 libkvikio-cu13 kvikio-cu13 "rapids-logger==0.3.*"
  numcodecs zstandard deflate google-crc32c ml_dtypes msgpack pcodec zfpy==1.0.1
  zarr msgspec donfig pyyaml typing-extensions packaging
  pytest pluggy iniconfig pygments pytest-xdist execnet hypothesis sortedcontainers
)

make_wheels() {
  local platforms=() name
  for name in manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_24 manylinux_2_17 \
    manylinux2014 manylinux1; do
    platforms+=(--platform "${name}_x86_64")
  done
  rm -rf "$wheels" && mkdir -p "$wheels"
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp "${platforms[@]}" -d "$wheels" "${packages[@]}" || return 1
  "$python" -m tests.conformance.corpus "$wheels/corpus" || return 1
  tar -czf "$wheels/corpus.tar.gz" -C "$wheels" corpus && rm -r "$wheels/corpus"
  git rev-parse --short HEAD >"$wheels/commit"
  du -sh "$wheels"
}

# The environment sees the machine's own packages; gpuzarr itself is used from the checkout.
make_environment() {
  "$python" -m venv --system-site-packages "$venv" || return 1
  "$venv/bin/python" -m pip install --quiet --no-index --no-deps --find-links "$wheels" \
    "$wheels"/*.whl || return 1
  tar -xzf "$wheels/corpus.tar.gz" -C "$wheels" || return 1
  "$venv/bin/python" benchmarks/gpu.py --describe --json "$out/machine.json"
}

run_tests() {
  export GPUZARR_REQUIRE_GPU=1 GPUZARR_CORPUS="$PWD/$wheels/corpus"
  timeout 520 "$venv/bin/python" -m pytest -m gpu -n 4 -q -p no:cacheprovider --maxfail=200 \
    --junit-xml="$out/tests.xml" tests/gpu tests/engines/cuda tests/conformance/test_cuda.py 2>&1 | tail -n 400 >"$out/tests.txt"
  local status=${PIPESTATUS[0]}
  tail -n 40 "$out/tests.txt"
  return "$status"
}

# sanitize TOOL SECONDS PYTEST-ARGUMENTS...: one tool over some tests; what it says is kept.
sanitize() {
  local tool="$1" seconds="$2" status
  shift 2
  timeout "$seconds" compute-sanitizer --tool "$tool" --error-exitcode 99 --target-processes all \
    "$venv/bin/python" -m pytest -q -n0 -p no:cacheprovider "$@" >"$out/.sanitizer" 2>&1
  status=$?
  {
    printf '==== %s: ' "$tool"
    case $status in
      0) echo "no errors" ;;
      99) echo "ERRORS" ;;
      124) echo "ended after $seconds s" ;;
      *) grep -q "not supported\|Unable to\|not found" "$out/.sanitizer" && echo "not available here" ||
        echo "exit status $status" ;;
    esac
    grep -E "=========|passed|failed" "$out/.sanitizer" | head -n 60
  } >>"$out/sanitizer.txt"
  rm -f "$out/.sanitizer"
  [ $status -eq 0 ]
}

run_sanitizer() {
  export GPUZARR_REQUIRE_GPU=1 GPUZARR_CORPUS="$PWD/$wheels/corpus" failed=0
  : >"$out/sanitizer.txt"
  if ! command -v compute-sanitizer >/dev/null; then
    echo "compute-sanitizer: not available here" | tee "$out/sanitizer.txt"
    return 0
  fi
  local some="lz4 or zstd or transpose or delta or packbits or shard"
  sanitize memcheck 160 -m gpu tests/conformance/test_cuda.py -k "($some) and handmade" || failed=1
  sanitize initcheck 120 -m gpu tests/gpu/test_reads.py -k "local_files and pinned and lz4" || failed=1
  sanitize synccheck 90 -m gpu tests/conformance/test_cuda.py -k "delta or adler or fletcher" || failed=1
  sanitize racecheck 140 -m gpu tests/conformance/test_cuda.py -k "delta or adler or fletcher" || failed=1
  cat "$out/sanitizer.txt"
  return $failed
}

run_bench() {
  timeout 520 "$venv/bin/python" benchmarks/gpu.py --json "$out/bench.json" | tee "$out/bench.md"
}

case "${1:-}" in
  wheels) make_wheels ;;
  setup) make_environment ;;
  test) run_tests ;;
  sanitize) run_sanitizer ;;
  bench) run_bench ;;
  *) sed -n '2,11p' "$0" >&2; exit 2 ;;
esac
