// Ranges of bytes to other places: streams that are stored as they are, and streams that must be
// brought to where nvCOMP takes them.
//
// source, target: [n] addresses, at any alignment; nbytes: [n]; first_block: [n + 1].
// Launch: THREADS threads, ceil(nbytes / COPY_TILE) blocks a range.
// Moves: a byte read and a byte written for each byte out.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
copy_ranges(const u64 *source, const u64 *target, const i64 *nbytes, const i64 *first_block, i64 n) {
  i64 range = find_item(first_block, n, blockIdx.x);
  i64 first = (blockIdx.x - first_block[range]) * COPY_TILE;
  i64 end = first + COPY_TILE < nbytes[range] ? first + COPY_TILE : nbytes[range];
  const u8 *from = bytes_at(source[range]);
  u8 *to = writable_at(target[range]);
  if ((source[range] - target[range]) % VECTOR) {
    for (i64 i = first + threadIdx.x; i < end; i += THREADS) to[i] = from[i];
    return;
  }
  // Whole vectors between the first and the last aligned address, single bytes around them.
  i64 head = (i64)((0 - (target[range] + (u64)first)) % VECTOR);
  i64 begin = first + head < end ? first + head : end;
  i64 vectors = (end - begin) / VECTOR, tail = begin + vectors * VECTOR;
  for (i64 i = first + threadIdx.x; i < begin; i += THREADS) to[i] = from[i];
  for (i64 i = threadIdx.x; i < vectors; i += THREADS) {
    *reinterpret_cast<uint4 *>(to + begin + i * VECTOR) =
        *reinterpret_cast<const uint4 *>(from + begin + i * VECTOR);
  }
  for (i64 i = tail + threadIdx.x; i < end; i += THREADS) to[i] = from[i];
}
EXPORT(copy_ranges)
