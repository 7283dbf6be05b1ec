// Bit planes back to elements: Blosc's bit shuffle, and bitshuffle's.
//
// An item of `nbytes` bytes holds count = nbytes / typesize elements. Bit k of byte j of element e is
// bit e % 8 of byte e / 8 of plane 8 * j + k; a plane has whole / 8 bytes. Blosc 1 (round_down 0)
// leaves an item alone whose count is no multiple of 8; with round_down 1 the first whole = count / 8 * 8
// elements are shuffled. Bytes behind the shuffled elements stay where they are.
//
// source, target: [n] addresses; nbytes, typesize: [n]; first_block: [n + 1].
// Launch: THREADS threads, ceil(max(count, 1) / BIT_TILE) blocks an item; a thread does an element.
// Moves: a byte read and a byte written for each byte out; the 8 threads that share a byte of a plane
// find it in the cache.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
bit_unshuffle(const u64 *source, const u64 *target, const i64 *nbytes, const i64 *typesize,
              const i64 *first_block, i64 n, i64 round_down) {
  i64 item = find_item(first_block, n, blockIdx.x);
  const u8 *from = bytes_at(source[item]);
  u8 *to = writable_at(target[item]);
  i64 size = typesize[item], length = nbytes[item], count = length / size;
  i64 whole = round_down ? count / 8 * 8 : (count % 8 ? 0 : count);
  i64 plane = whole / 8, first = (blockIdx.x - first_block[item]) * BIT_TILE;
  bool is_last = blockIdx.x + 1 == first_block[item + 1];
  for (i64 e = first + threadIdx.x; e < first + BIT_TILE && e < whole; e += THREADS) {
    for (i64 j = 0; j < size; j++) {
      u32 byte = 0;
      for (i64 k = 0; k < 8; k++) {
        byte |= (u32)(from[(8 * j + k) * plane + e / 8] >> (e % 8) & 1) << k;
      }
      to[e * size + j] = (u8)byte;
    }
  }
  // What is not shuffled: elements of this tile, and in the last one all the rest.
  i64 begin = first * size > whole * size ? first * size : whole * size;
  i64 end = is_last ? length : (first + BIT_TILE) * size;
  for (i64 i = begin + threadIdx.x; i < end; i += THREADS) to[i] = from[i];
}
EXPORT(bit_unshuffle)
