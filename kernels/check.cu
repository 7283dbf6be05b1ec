// What became of streams and checksums, as statuses of their chunks.
//
// Launch: THREADS threads, ceil(m / THREADS) blocks; a thread does a stream. status: [chunks].
#include "numbers.cuh"

// outcome: [m] 0 where a stream was decoded; actual, expected: [m] bytes; chunk: [m] row of `status`.
extern "C" __global__ void __launch_bounds__(THREADS)
check_streams(const i32 *outcome, const u64 *actual, const u64 *expected, const i64 *chunk, i64 m,
              i32 *status) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i >= m) return;
  if (outcome[i]) {
    report(status, chunk[i], STATUS_STREAM);
  } else if (actual[i] != expected[i]) {
    report(status, chunk[i], STATUS_SIZE);
  }
}
EXPORT(check_streams)

// value: [m] computed checksums; expected: [m] what streams say of themselves.
extern "C" __global__ void __launch_bounds__(THREADS)
check_values(const u32 *value, const i64 *expected, const i64 *chunk, i64 m, i32 *status) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i < m && (i64)value[i] != expected[i]) report(status, chunk[i], STATUS_FRAME_CHECKSUM);
}
EXPORT(check_values)

// address: [m] of the 4 stored bytes, little-endian, at any alignment.
extern "C" __global__ void __launch_bounds__(THREADS)
check_stored(const u32 *value, const u64 *address, const i64 *chunk, i64 m, i32 *status) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i < m && value[i] != (u32)load_word(bytes_at(address[i]), 4, false)) {
    report(status, chunk[i], STATUS_CHECKSUM);
  }
}
EXPORT(check_stored)
