#!/usr/bin/env bash
# Everything that only a GPU can show, unattended, in stages of under nine minutes each:
#
#   gpu_check.sh wheels     on a machine with a package index: what the GPU machine needs, in .gpu-wheels/
#   gpu_check.sh more-wheels   peers, xarray and dask, which do not fit beside that, in .gpu-more-wheels/
#   gpu_check.sh setup      on the GPU machine, offline: an environment in .venv-gpu/, and what it is
#   gpu_check.sh more-setup    those, if .gpu-more-wheels/ is there, into the same environment
#   gpu_check.sh test       the tests marked `gpu`, where a skip is a failure
#   gpu_check.sh sanitize   a subset under compute-sanitizer, tool by tool
#   gpu_check.sh bench [SECTION...]   gpuzarr beside its peers, and the ceilings of the machine
#
# `more-setup` comes before `test` and `bench`. The latter takes two or three calls: each goes on where
# the one before it ended, if it is the same machine and commit. It is complete when it says "nothing
# left out". The sections are those of `gpu.py`.
#
# `wheels` runs in an environment with the `test` extra. The GPU machine has Python 3.12 with CuPy and
# NumPy, which GPU_PYTHON names (default: python3). Results go to $OUT (default
# benchmarks/results/latest) as they come, seven files at most; a stage that is cut off keeps what it
# had. `benchmarks/observations.py` makes tables of observations.json, `benchmarks/gpu_report.py`
# documents of bench.json.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

wheels=.gpu-wheels
more_wheels=.gpu-more-wheels
venv=.venv-gpu
most_mib=62
python="${GPU_PYTHON:-python3}"
mkdir -p "${OUT:-benchmarks/results/latest}"
out="$(cd "${OUT:-benchmarks/results/latest}" && pwd)" || exit 2
export GPUZARR_OBSERVATIONS="$out/observations.json" PYTHONPATH="$PWD" PYTHONUNBUFFERED=1

# ------------------------------------------------------------------------- wheels and setup

# Not needed there: what CuPy brings, and what only other tests use.
packages=(
  nvidia-libnvcomp-cu13 libkvikio-cu13 kvikio-cu13 "rapids-logger==0.3.*"
  numcodecs zstandard deflate google-crc32c ml_dtypes msgpack pcodec zfpy==1.0.1
  zarr zarrs obstore msgspec donfig pyyaml typing-extensions packaging
  pytest pluggy iniconfig pygments pytest-xdist execnet hypothesis sortedcontainers
)

# Peers, and whose doors are tested, with what they need beside the above.
more_packages=(
  tensorstore czarr session-info2 nvidia-nvcomp-cu13 rmm-cu13 librmm-cu13 cuda-core cuda-bindings
  xarray pandas python-dateutil six dask toolz cloudpickle partd locket fsspec click
)

# download FOLDER PACKAGE...: their wheels for the GPU machine.
download() {
  local platforms=() name
  for name in manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_24 manylinux_2_17 \
    manylinux2014 manylinux1; do
    platforms+=(--platform "${name}_x86_64")
  done
  rm -rf "$1" && mkdir -p "$1"
  "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp "${platforms[@]}" -d "$1" "${@:2}"
}

# small_enough FOLDER: machines take so many MiB at a time, and the checkout besides.
small_enough() {
  local mib
  mib=$(du -sm --apparent-size "$1" | cut -f1)
  echo "$1: $mib MiB in $(find "$1" -type f | wc -l) files"
  [ "$mib" -le "$most_mib" ] || { echo "that is over $most_mib MiB" >&2; return 1; }
}

make_wheels() {
  download "$wheels" "${packages[@]}" || return 1
  "$python" -m tests.conformance.corpus "$wheels/corpus" || return 1
  tar -czf "$wheels/corpus.tar.gz" -C "$wheels" corpus && rm -r "$wheels/corpus" || return 1
  git describe --always --dirty=+ --abbrev=10 '--exclude=*' >"$wheels/commit" || return 1
  small_enough "$wheels"
}

make_more_wheels() {
  download "$more_wheels" "${more_packages[@]}" && small_enough "$more_wheels"
}

# The environment sees the packages of the interpreter that it is made with, also where that is in
# an environment of its own; gpuzarr itself is used from the checkout.
make_environment() {
  rm -rf "$venv"
  "$python" -m venv --system-site-packages --without-pip "$venv" || return 1
  "$python" - "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" <<'EOF' || return 1
import site, sys
with open(sys.argv[1] + "/outer.pth", "w") as file:
    if sys.prefix != sys.base_prefix:  # CUDA's libraries in wheels are looked for below prefixes
        file.write(f"import site; site.PREFIXES.append({sys.prefix!r})\n")
    file.writelines(f"import site; site.addsitedir({place!r})\n" for place in site.getsitepackages())
EOF
  install_from "$wheels" || return 1
  rm -rf "$wheels/corpus"
  tar -xzf "$wheels/corpus.tar.gz" -C "$wheels" || return 1
  timeout -k 10 120 "$venv/bin/python" benchmarks/gpu.py --describe --json "$out/setup.json"
}

# install_from FOLDER: its wheels, also where the machine has others of the same name.
install_from() {
  "$python" -m pip --python "$venv/bin/python" install --quiet --no-index --no-deps \
    --ignore-installed --no-warn-script-location "$1"/*.whl
}

install_more() {
  need_environment || return 1
  if [ -d "$more_wheels" ]; then
    install_from "$more_wheels" || return 1
    # zarr-python imports it whenever an array is opened.
    "$venv/bin/python" -c 'import czarr' || {
      echo "czarr cannot be used here, and zarr-python not with it: it goes"
      "$python" -m pip --python "$venv/bin/python" uninstall --quiet --yes czarr || return 1
    }
  else
    echo "there is no $more_wheels here"
  fi
  timeout -k 10 120 "$venv/bin/python" benchmarks/gpu.py --describe --json "$out/setup.json"
}

# A stage may be the first on its machine.
need_environment() {
  [ -x "$venv/bin/python" ] && [ -d "$wheels/corpus" ] || make_environment >"$out/.setup" 2>&1 || {
    cat "$out/.setup"
    return 1
  }
  rm -f "$out/.setup"
}

# limited SECONDS COMMAND...: interrupted in good time, so that it can still write its results.
limited() {
  timeout -s INT -k 25 "$1" env --default-signal=INT "${@:2}"
}

# -------------------------------------------------------------------------------------- test

run_tests() {
  need_environment || return 1
  export GPUZARR_REQUIRE_GPU=1 GPUZARR_CORPUS="$PWD/$wheels/corpus"
  local files
  files="$("$venv/bin/python" -c 'from tests.gpu import FILES; print(*FILES)')" || return 1
  # shellcheck disable=SC2086  they are words
  limited 480 "$venv/bin/python" -m pytest -v -m gpu -n 6 -p no:cacheprovider --maxfail=300 \
    --tb=short --junit-xml="$out/tests.xml" $files >"$out/tests.txt" 2>&1
  local status=$?
  tail -n 60 "$out/tests.txt"
  case $status in
    0) ;;
    124 | 137) echo "cut off: $(grep -c ' PASSED ' "$out/tests.txt") had passed by then" ;;
    *) echo "pytest: exit status $status" ;;
  esac | tee -a "$out/tests.txt"
  return "$status"
}

# ---------------------------------------------------------------------------------- sanitize

# run_tool TOOL SECONDS COMMAND...: everything that is said is in $out/.said afterwards.
run_tool() {
  local tool="$1" seconds="$2" more=()
  shift 2
  [ "$tool" = memcheck ] && more=(--report-api-errors no) # CuPy asks CUDA what it expects to fail
  timeout -k 10 "$seconds" "$sanitizer" --tool "$tool" "${more[@]}" --error-exitcode 99 \
    "$venv/bin/python" "$@" >"$out/.said" 2>&1
}

# errors_said: the number that the tool ends with, be it of errors or of hazards.
errors_said() {
  grep -oE 'ERROR SUMMARY: [0-9]+|RACECHECK SUMMARY: [0-9]+' "$out/.said" | tail -n 1 | grep -oE '[0-9]+$'
}

note() {
  echo "==== $*" | tee -a "$out/sanitizer.txt"
}

# sanitize TOOL SECONDS PYTEST-ARGUMENTS...: errors in our kernels and failed tests are failures;
# a tool that does not work here, or finds something in other kernels alone, is a fact.
sanitize() {
  local tool="$1" seconds="$2" status errors ours
  shift 2
  if ! run_tool "$tool" 40 -m tests.gpu.sanitizer_probe good || [ "$(errors_said)" != 0 ]; then
    note "$tool: not available here"
    tail -n 5 "$out/.said" >>"$out/sanitizer.txt"
    return 0
  fi
  if [ "$tool" = memcheck ]; then
    run_tool "$tool" 40 -m tests.gpu.sanitizer_probe bad
    [ "$(errors_said)" != 0 ] && note "memcheck sees a write behind memory" ||
      note "memcheck does NOT see a write behind memory: what follows means little"
  fi
  run_tool "$tool" "$seconds" -m pytest -v -n0 -m gpu -p no:cacheprovider -p tests.gpu.without_pool \
    --tb=short "$@"
  status=$?
  errors=$(errors_said)
  ours=$(grep -cE "^=========.*\b($kernels)\b" "$out/.said")
  local verdict="no errors" failed=0
  if [ "$ours" -gt 0 ]; then
    verdict="ERRORS in gpuzarr's kernels" failed=1
  elif [ $status -eq 124 ] || [ $status -eq 137 ]; then
    verdict="nothing found when it was ended after $seconds s"
  elif [ $status -ne 0 ] && [ $status -ne 99 ]; then
    verdict="TESTS FAILED, exit status $status" failed=1
  elif [ "${errors:-0}" != 0 ]; then
    verdict="$errors errors, none in gpuzarr's kernels"
  fi
  note "$tool: $verdict ($(grep -c ' PASSED ' "$out/.said") tests passed)"
  grep -E "^=========|^(FAILED|ERROR)|^[0-9=].* (passed|failed)" "$out/.said" | head -n 150 >>"$out/sanitizer.txt"
  return $failed
}

run_sanitizer() {
  need_environment || return 1
  : >"$out/sanitizer.txt"
  sanitizer="$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)"
  if [ -z "$sanitizer" ]; then
    note "compute-sanitizer: not available here"
    return 0
  fi
  kernels="$("$venv/bin/python" -c 'from gpuzarr.engines.cuda.kernels import KERNELS; print("|".join(KERNELS))')" || return 1
  export GPUZARR_REQUIRE_GPU=1 GPUZARR_CORPUS="$PWD/$wheels/corpus"
  unset GPUZARR_OBSERVATIONS # these runs are no observations
  local arrays=tests/conformance/test_cuda.py files=tests/gpu/test_reads.py failed=0
  local filters="numcodecs-delta or numcodecs-fixed or numcodecs-astype or numcodecs-packbits"
  local sums="numcodecs-delta or numcodecs-adler32 or numcodecs-fletcher32 or zstd-3-checksum"
  local some="pinned and (none or bitshuffle or blosclz)"
  sanitize memcheck 130 $arrays $files \
    -k "$some or $filters or $sums or packbits-int4 or scale_offset-f8 or cast_value-f8" || failed=1
  sanitize initcheck 70 $arrays $files -k "pinned and blosclz or $filters or $sums" || failed=1
  sanitize synccheck 50 $arrays -k "$filters or $sums or blosc-zstd-bit" || failed=1
  sanitize racecheck 70 $arrays -k "$filters or $sums or blosc-zstd-bit" || failed=1
  rm -f "$out/.said"
  return $failed
}

# ------------------------------------------------------------------------------------- bench

# A reader that takes the process or the device with it is left out when the rest is done in a new
# process. The rows stay on the machine, in benchmarks/data/, which a later call finds.
run_bench() {
  need_environment || return 1
  local known=benchmarks/data/gpu-bench.json end=$((SECONDS + 490)) left status
  mkdir -p benchmarks/data
  for _ in 1 2 3 4; do
    left=$((end - SECONDS))
    [ $left -gt 100 ] || break
    limited $left "$venv/bin/python" benchmarks/gpu.py "$@" --seconds $((left - 90)) \
      --folder benchmarks/data --before "$known" --json "$out/bench.json" >"$out/bench.md"
    status=$?
    [ -s "$out/bench.json" ] && cp "$out/bench.json" "$known"
    [ $status -gt 128 ] && [ $status -ne 137 ] || break
    echo "that process has ended with status $status: the rest goes on in another"
  done
  cat "$out/bench.md"
  return "$status"
}

case "${1:-}" in
  wheels) make_wheels ;;
  more-wheels) make_more_wheels ;;
  setup) make_environment ;;
  more-setup) install_more ;;
  test) run_tests ;;
  sanitize) run_sanitizer ;;
  bench) run_bench "${@:2}" ;;
  *) sed -n '2,20p' benchmarks/gpu_check.sh >&2; exit 2 ;;
esac
